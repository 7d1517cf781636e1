"""Zero-shot CLIP: the nearest class text (Radford et al., 2021)."""

from vtclip.methods.base import Classifier, Head, Method, Texts, nearest


class ZeroShot(Method):
    """logits = scale * cos(pooled, texts)."""

    title = "Zero-shot CLIP"
    few_shot = False
    names_new_classes = True

    def classifier(self, head: Head, texts: Texts) -> Classifier:
        """Nothing is learned: the texts are the classifier."""
        return nearest(texts.features, texts)
