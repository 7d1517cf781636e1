import pytest
import torch
import torch.nn.functional as F

from vtclip.methods.base import Images, Texts
from vtclip.methods.visual_guided import VisualGuidedHead, VisualGuidedText
from vtclip.methods.zero_shot import ZeroShot
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
        VisualGuidedHead(guide, classes)(images), expected, rtol=0, atol=1e-4
    )
    torch.testing.assert_close(guide(texts, spatial), texts.expand(4, -1, -1), rtol=0, atol=1e-6)


def scrambled(guide):
    """The same module with no weight at zero, as after training."""
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


@pytest.mark.parametrize("norm_place", ["pre", "post"])
def test_the_block_equals_the_textbook_decoder_layer_with_the_same_weights(norm_place):
    texts, spatial, _ = inputs()
    guide = scrambled(VisualGuidedText(32, heads=4, norm=norm_place))
    block = guide.blocks[0]
    layer = torch.nn.TransformerDecoderLayer(
        32, 4, 128, dropout=0.0, activation="gelu", batch_first=True,
        norm_first=norm_place == "pre",
    )  # fmt: skip
    with torch.no_grad():
        attentions = (
            (layer.self_attn, layer.norm1, block.among_texts),
            (layer.multihead_attn, layer.norm2, block.to_image),
        )
        for theirs, norm, ours in attentions:
            parts = (ours.part.query, ours.part.key, ours.part.value)
            theirs.in_proj_weight.copy_(torch.cat([part.weight for part in parts]))
            theirs.in_proj_bias.copy_(torch.cat([part.bias for part in parts]))
            theirs.out_proj.load_state_dict(ours.part.out.state_dict())
            norm.load_state_dict(ours.norm.state_dict())
        layer.linear1.load_state_dict(block.feed_forward.part.rise.state_dict())
        layer.linear2.load_state_dict(block.feed_forward.part.out.state_dict())
        layer.norm3.load_state_dict(block.feed_forward.norm.state_dict())
    targets = (guide.scale * texts).expand(4, -1, -1)
    expected = F.normalize(layer(targets, guide.spatial_norm(spatial)), dim=-1)
    torch.testing.assert_close(guide(texts, spatial), expected, rtol=1e-5, atol=1e-5)


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


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(ValueError, match="divisor of the width 32, found 5"):
        VisualGuidedText(32, heads=5)
