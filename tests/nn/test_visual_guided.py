import math

import pytest
import torch
import torch.nn.functional as F
from torch._subclasses.fake_tensor import FakeTensorMode

from vtclip.methods.base import Images, Texts
from vtclip.methods.zero_shot import ZeroShot
from vtclip.nn.visual_guided import VisualGuidedHead, VisualGuidedText
from vtclip.settings import Settings


def inputs(dim=32, classes=5, batch=4, tokens=7, width=32):
    generator = torch.Generator().manual_seed(0)
    texts = F.normalize(torch.randn(classes, dim, generator=generator), dim=-1)
    spatial = torch.randn(batch, tokens, width, generator=generator)
    pooled = torch.randn(batch, dim, generator=generator)
    return texts, spatial, pooled


@pytest.mark.parametrize("blocks", [1, 2])
@pytest.mark.parametrize("self_attention", [True, False])
@pytest.mark.parametrize("feed_forward", [0, 4.0])
@pytest.mark.parametrize("width", [32, 48])
@pytest.mark.parametrize("residual", ["zero", "gate"])
@pytest.mark.parametrize("residual_weight", [1.0, 0.3])
def test_before_training_the_logits_are_zero_shots(
    blocks, self_attention, feed_forward, width, residual, residual_weight
):
    texts, spatial, pooled = inputs(width=width)
    guide = VisualGuidedText(
        32, spatial_dim=width, blocks=blocks, self_attention=self_attention,
        feed_forward=feed_forward, residual=residual, residual_weight=residual_weight, dropout=0.5,
    )  # fmt: skip
    images, classes = Images(pooled, spatial), Texts(texts, 100.0)
    expected = ZeroShot(Settings()).classifier({}, classes)(images)
    torch.testing.assert_close(
        VisualGuidedHead(guide, classes)(images), expected, rtol=0, atol=1e-3
    )
    torch.testing.assert_close(guide(texts, spatial), texts.expand(4, -1, -1), rtol=0, atol=1e-6)


def scrambled(guide):
    """A copy of the module with no weight at zero, as after training."""
    generator = torch.Generator().manual_seed(1)
    for weight in guide.parameters():
        torch.nn.init.normal_(weight, std=0.2, generator=generator)
    return guide


def test_each_image_has_texts_of_its_own_whatever_its_batch():
    texts, spatial, _ = inputs()
    guide = scrambled(VisualGuidedText(32))
    guided = guide(texts, spatial)
    assert guided.shape == (4, 5, 32)
    torch.testing.assert_close(guided.norm(dim=-1), torch.ones(4, 5))
    assert not torch.allclose(guided[0], guided[1], atol=1e-2)
    torch.testing.assert_close(guide(texts, spatial[2:3])[0], guided[2], rtol=1e-4, atol=1e-5)


def test_the_order_of_spatial_tokens_does_not_matter():
    texts, spatial, _ = inputs()
    guide = scrambled(VisualGuidedText(32))
    torch.testing.assert_close(
        guide(texts, spatial.flip(1)), guide(texts, spatial), rtol=1e-4, atol=1e-5
    )


def textbook(guide, norm_place):
    """PyTorch's decoder layer with a block's weights, and each of our weights' name in it."""
    dim, heads = guide.dim, guide.blocks[0].to_image.part.heads
    layer = torch.nn.TransformerDecoderLayer(
        dim, heads, 4 * dim, dropout=0.0, activation="gelu", batch_first=True,
        norm_first=norm_place == "pre",
    )  # fmt: skip
    names = {
        "among_texts.norm": "norm1", "to_image.norm": "norm2", "feed_forward.norm": "norm3",
        "feed_forward.part.rise": "linear1", "feed_forward.part.out": "linear2",
        "among_texts.part.out": "self_attn.out_proj",
        "to_image.part.out": "multihead_attn.out_proj",
    }  # fmt: skip
    slices = {}
    for kind in ("weight", "bias"):
        for ours, theirs in names.items():
            slices[f"{ours}.{kind}"] = (f"{theirs}.{kind}", slice(None))
        for ours, theirs in (("among_texts", "self_attn"), ("to_image", "multihead_attn")):
            for number, part in enumerate(("query", "key", "value")):
                rows = slice(number * dim, (number + 1) * dim)
                slices[f"{ours}.part.{part}.{kind}"] = (f"{theirs}.in_proj_{kind}", rows)
    weights = dict(layer.named_parameters())
    with torch.no_grad():
        for ours, (theirs, rows) in slices.items():
            weights[theirs][rows] = guide.blocks[0].get_parameter(ours)
    return layer, slices


def similarities(guided, pooled):
    return torch.einsum("bd,bkd->bk", F.normalize(pooled, dim=-1), guided)


@pytest.mark.parametrize("norm_place", ["pre", "post"])
@pytest.mark.parametrize("memory", [None, 30_000])
def test_values_and_gradients_equal_the_textbook_decoder_layers(norm_place, memory):
    texts, spatial, pooled = inputs(classes=9)
    guide = scrambled(VisualGuidedText(32, heads=4, norm=norm_place, memory=memory))
    layer, slices = textbook(guide, norm_place)
    targets = (guide.scale * texts).expand(4, -1, -1)
    expected = F.normalize(layer(targets, guide.spatial_norm(spatial)), dim=-1)
    torch.testing.assert_close(guide(texts, spatial), expected, rtol=1e-5, atol=1e-5)

    labels = torch.arange(4)
    F.cross_entropy(similarities(expected, pooled), labels).backward()
    norms_gradient = guide.spatial_norm.weight.grad.clone()
    guide.zero_grad()
    F.cross_entropy(guide.similarity(texts, spatial, pooled), labels).backward()
    theirs = {name: weight.grad for name, weight in layer.named_parameters()}
    for name, (their_name, rows) in slices.items():
        ours = guide.blocks[0].get_parameter(name).grad
        torch.testing.assert_close(ours, theirs[their_name][rows], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(guide.spatial_norm.weight.grad, norms_gradient, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("settings", [{}, {"blocks": 2}, {"feed_forward": 0, "norm": "post"}])
@pytest.mark.parametrize(("memory", "keep"), [(80_000, "products"), (30_000, "nothing"), (1, None)])
def test_split_classes_give_the_same_values_and_gradients(settings, memory, keep):
    texts, spatial, pooled = inputs(classes=11, batch=6)
    results = []
    for limit in (1 << 30, memory):
        guide = scrambled(VisualGuidedText(32, memory=limit, **settings))
        similarity = guide.similarity(texts, spatial, pooled)
        F.cross_entropy(50 * similarity, torch.arange(6)).backward()
        results.append([similarity, *(weight.grad for weight in guide.parameters())])
        torch.testing.assert_close(
            similarity, similarities(guide(texts, spatial), pooled), rtol=1e-5, atol=1e-5
        )
    if keep and not settings:
        assert guide._plan(texts, spatial).keep == keep
    for whole, split in zip(*results, strict=True):
        torch.testing.assert_close(whole, split, rtol=1e-4, atol=1e-5)


def test_dropout_is_the_same_in_the_second_computation_of_a_chunk():
    """Else the gradient would belong to another loss than the one that was computed."""
    texts, spatial, pooled = inputs(classes=8)
    guide = scrambled(VisualGuidedText(32, dropout=0.5, memory=20_000)).double()
    texts, spatial, pooled = texts.double(), spatial.double(), pooled.double()

    def loss():
        torch.manual_seed(3)
        return guide.similarity(texts, spatial, pooled).square().sum()

    loss().backward()
    weight = guide.blocks[0].feed_forward.part.out.bias
    slope, step = weight.grad[5].item(), 1e-3
    with torch.no_grad():
        weight[5] += step
        up = loss()
        weight[5] -= 2 * step
        down = loss()
    assert ((up - down) / (2 * step)).item() == pytest.approx(slope, rel=1e-2)


def test_no_attention_is_given_a_stride_of_0(monkeypatch):
    """Some versions of cuDNN's attention, on NVIDIA's Hopper, refuse it."""
    strides, attend = [], F.scaled_dot_product_attention

    def record(*tensors):
        strides.extend(stride for tensor in tensors for stride in tensor.stride())
        return attend(*tensors)

    monkeypatch.setattr(F, "scaled_dot_product_attention", record)
    texts, spatial, _ = inputs()
    VisualGuidedText(32, blocks=2)(texts, spatial)
    assert len(strides) == 4 * 3 * 4  # attentions, tensors, dimensions
    assert 0 not in strides


def test_attention_is_the_mean_over_heads_of_softmax_query_key():
    texts, spatial, _ = inputs()
    guide = scrambled(VisualGuidedText(32, heads=2))
    attention = guide.attention(texts, spatial)
    assert attention.shape == (4, 5, 7)
    torch.testing.assert_close(attention.sum(-1), torch.ones(4, 5))
    block = guide.blocks[0]
    queries = block.to_image.norm(block.among_texts((guide.scale * texts)[None]))[0]
    part, tokens = block.to_image.part, guide.spatial_norm(spatial)
    for image in range(4):
        for text in range(5):
            query, key = part.query(queries[text]), part.key(tokens[image])
            heads = [
                (key[:, half] @ query[half] / 4).softmax(0)
                for half in (slice(0, 16), slice(16, 32))
            ]
            torch.testing.assert_close(
                attention[image, text], (heads[0] + heads[1]) / 2, rtol=1e-4, atol=1e-5
            )


def test_gradients_reach_every_part_after_one_step():
    texts, spatial, pooled = inputs()
    head = VisualGuidedHead(VisualGuidedText(32), Texts(texts, 100.0))
    optimiser = torch.optim.SGD(head.parameters(), lr=0.1)
    for _ in range(2):
        optimiser.zero_grad()
        F.cross_entropy(head(Images(pooled, spatial)), torch.arange(4)).backward()
        optimiser.step()
    without = [name for name, weight in head.named_parameters() if not weight.grad.any()]
    # A key's bias adds the same to all of a query's scores, which the softmax does not see.
    assert [name for name in without if not name.endswith("key.bias")] == []


def test_a_gate_learns_from_the_first_step_on():
    texts, spatial, pooled = inputs()
    head = VisualGuidedHead(VisualGuidedText(32, residual="gate"), Texts(texts, 100.0))
    F.cross_entropy(head(Images(pooled, spatial)), torch.arange(4)).backward()
    gates = [weight for name, weight in head.named_parameters() if name.endswith("gate")]
    assert len(gates) == 3
    assert all(gate.grad != 0 for gate in gates)


LABELS = torch.tensor([0, 3, 3, 8])


@pytest.mark.parametrize("settings", [{}, {"self_attention": False}, {"memory": 1}])
def test_a_step_guides_each_images_own_class_and_the_nearest_and_no_other(settings):
    texts, spatial, pooled = inputs(classes=9)
    plain = Texts(texts, 100.0).logits(pooled)
    heads = [
        VisualGuidedHead(
            scrambled(VisualGuidedText(32, **settings)), Texts(texts, 100.0), train_classes=number
        )
        for number in (3, None)
    ]
    some, every = (head(Images(pooled, spatial, LABELS)) for head in heads)
    guided = some != plain
    for image, label in enumerate(LABELS.tolist()):
        others = [k for k in plain[image].argsort(descending=True).tolist() if k != label]
        assert guided[image].nonzero().flatten().tolist() == sorted([label, *others[:2]])
    torch.testing.assert_close(some, torch.where(guided, every, plain), rtol=1e-4, atol=1e-3)

    F.cross_entropy(some, LABELS).backward()
    F.cross_entropy(torch.where(guided, every, plain), LABELS).backward()
    for one, other in zip(heads[0].parameters(), heads[1].parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-3, atol=1e-4)


def test_texts_chosen_in_any_order_keep_their_similarities_through_two_blocks():
    texts, spatial, pooled = inputs(classes=9)
    guide = scrambled(VisualGuidedText(32, blocks=2))
    chosen = torch.stack([torch.randperm(9) for _ in range(4)])
    similarity = guide.similarity(texts, spatial, pooled)
    torch.testing.assert_close(
        guide.similarity(texts, spatial, pooled, chosen), similarity.gather(1, chosen),
        rtol=1e-4, atol=1e-5,
    )  # fmt: skip


@pytest.mark.parametrize("blocks", [1, 2])
def test_all_texts_are_guided_to_classify_and_where_training_guides_as_many(blocks):
    texts, spatial, pooled = inputs(classes=9)
    guide = scrambled(VisualGuidedText(32, blocks=blocks))
    every, some, as_many, more = (
        VisualGuidedHead(guide, Texts(texts, 100.0), train_classes=number)
        for number in (None, 2, 9, 1000)
    )
    to_learn, expected = Images(pooled, spatial, LABELS), every(Images(pooled, spatial))
    assert not torch.equal(some(to_learn), expected)
    for found in (some(Images(pooled, spatial)), as_many(to_learn), more(to_learn)):
        assert torch.equal(found, expected)
    assert torch.equal(some.eval()(to_learn), expected)


@pytest.fixture
def new_gpu(monkeypatch):
    """Layers compute in bfloat16."""
    monkeypatch.setattr("vtclip.runtime.devices.has_bfloat16", lambda device: True)
    # PyTorch switches autocast off where there is no GPU.
    monkeypatch.setattr("torch.cuda.amp.common.amp_definitely_not_available", lambda: False)
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda: True)


@torch.no_grad()
def test_on_a_gpu_products_are_in_bfloat16_and_norms_and_logits_in_float32(new_gpu, monkeypatch):
    found = {}

    def note(name, layer):
        def noted(*inputs, **options):
            result = layer(*inputs, **options)
            found.setdefault(name, set()).add(result.dtype)
            return result

        monkeypatch.setattr(F, name, noted)

    products = ("linear", "gelu", "scaled_dot_product_attention")
    for name in (*products, "layer_norm"):
        note(name, getattr(F, name))
    with FakeTensorMode(), torch.device("cuda"):
        texts, spatial, pooled = torch.ones(5, 32), torch.ones(4, 7, 32), torch.ones(4, 32)
        guide = VisualGuidedText(32, blocks=2, memory=math.inf)
        logits = VisualGuidedHead(guide, Texts(texts, 100.0))(Images(pooled, spatial))
    assert (logits.device.type, logits.dtype) == ("cuda", torch.float32)
    assert found.pop("layer_norm") == {torch.float32}
    assert found == {name: {torch.bfloat16} for name in products}


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(ValueError, match="heads: expected a divisor of the width 16, found 3"):
        VisualGuidedText(16, heads=3)
