import numpy as np

from tests.methods.by_hand import cosine_logits, gradient, in_double, rates
from vtclip.methods.base import Images
from vtclip.methods.zs_lp import ZSLP, ZSLPSettings
from vtclip.training.optimise import optimise

STEPS = 5


def train(task, **settings):
    method = ZSLP(ZSLPSettings(**{"epochs": STEPS, "warmup": 0.0} | settings))
    learner = method.learner(method.initial_head(task), task)
    optimise(learner, task, method.settings)
    return method, method.finish(learner, task)


def test_training_equals_gradient_descent_with_momentum_by_hand(task):
    task = in_double(task)
    method, head = train(task)
    vectors = task.texts.means.numpy()
    start, momentum = vectors, np.zeros_like(vectors)
    for rate in rates(0.1, STEPS):
        momentum = 0.9 * momentum + gradient(vectors, task)
        vectors = vectors - rate * momentum
    assert np.abs(vectors - start).max() > 0.1
    assert np.abs(head["vectors"].numpy() - vectors).max() < 1e-5
    pooled = task.val.pooled[:, 0]
    logits = method.classifier(head, task.texts)(Images(pooled, None)).numpy()
    assert np.abs(logits - cosine_logits(vectors, pooled, 10)).max() < 1e-5


def test_the_recipe_is_the_papers():
    recipe = ZSLPSettings()
    assert (recipe.optimiser, recipe.learning_rate, recipe.weight_decay) == ("sgd", 0.1, 0)
    assert (recipe.batch_size, recipe.epochs_at(1), recipe.epochs_at(16)) == (256, 300, 300)
    assert recipe.for_dataset("imagenet").epochs_at(16) == 300
