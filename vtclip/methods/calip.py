"""CALIP: CLIP with attention that has no parameters (Guo et al., AAAI 2023, arXiv 2209.14169)."""

from pydantic import Field

from vtclip.cost import BATCH, SINGLE, Size, Work
from vtclip.methods.base import Classifier, Head, Images, Method, Tensor, Texts, unit
from vtclip.settings import Settings


class CALIPSettings(Settings):
    """Settings of CALIP. The paper has other weights for each dataset; here it is one pair."""

    text_weight: float = Field(1.12, ge=0)  # the paper's, for ImageNet
    """weight of the texts that have seen the image (beta 2), 0 or more"""
    image_weight: float = Field(0.02, ge=0)  # the paper's, for ImageNet
    """weight of the image that has seen the texts (beta 3), 0 or more"""
    sharpness: float = Field(2.0, gt=0)
    """factor on the cosines before the softmax of the attention, above 0"""


class CALIP(Method):
    """Zero-shot logits and those of attention in both directions, without training.

    With S (N, D) an image's places, that is its spatial features without the pooled one, and
    T (K, D) the texts, both of unit length, and A = sharpness * S @ T.T:

        T' = softmax of A over the places, transposed @ S      texts that have seen the image
        F' = mean + maximum over the places of (softmax of A over the classes) @ T
        logits = scale * (f @ T.T + text_weight * f @ T'.T + image_weight * F' @ T.T)
    """

    title = "CALIP"
    settings_type = CALIPSettings
    settings: CALIPSettings
    few_shot = False
    names_new_classes = True
    reads_spatial = True
    needs_projected = True

    def classifier(self, head: Head, texts: Texts) -> Classifier:
        """Nothing is learned."""
        settings = self.settings

        def logits(images: Images) -> Tensor:
            assert images.spatial is not None
            places = images.spatial[:, 1:] if texts.has_pooled_token else images.spatial
            pooled, spatial = unit(images.pooled), unit(places)  # (B, D), (B, N, D)
            attention = settings.sharpness * spatial @ texts.features.T  # (B, N, K)
            seen_texts = attention.softmax(dim=1).mT @ spatial  # (B, K, D)
            seen = attention.softmax(dim=2) @ texts.features  # (B, N, D)
            seen_image = seen.mean(dim=1) + seen.amax(dim=1)  # (B, D)
            of_texts = (seen_texts @ pooled[..., None])[..., 0]  # (B, K)
            of_image = seen_image @ texts.features.T  # (B, K)
            attended = settings.text_weight * of_texts + settings.image_weight * of_image
            return texts.logits(images.pooled) + texts.logit_scale * attended

        return logits

    def work(self, size: Size) -> Work:
        """Three products of tokens, texts and D, and three comparisons, for an image."""
        tokens, dim, classes = size.shape.tokens, size.shape.dim, size.classes
        # The attention and both its softmaxes; T'; the tokens, sharpened, and what they saw.
        numbers = 3 * tokens * classes + classes * dim + 3 * tokens * dim
        plain = super().work(size)
        return plain._replace(
            predict_flops=6 * tokens * classes * dim + 6 * classes * dim,
            batch_bytes=BATCH * numbers * SINGLE,
        )
