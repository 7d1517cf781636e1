"""SS-Text+: SS-Text for unequal numbers of shots (Silva-Rodriguez et al., arXiv 2506.17500)."""

from vtclip.methods.base import Head, Task, Tensor, unit
from vtclip.methods.ss_text import LARGEST_NUMBER, SSText


class SSTextPlus(SSText):
    """SS-Text with a lambda for each class, whose vectors then repel one another.

    lambda_k is 1 / n_k for the n_k shots of class k, and 1e-3 at least. With m, the mean of the
    vectors over the classes, vector_k becomes vector_k - unit(2 vector_k - m).
    """

    title = "SS-Text+"

    def initial_head(self, task: Task) -> Head:
        """The sum, after the vectors have repelled one another."""
        vectors = super().initial_head(task)["vectors"]
        return {"vectors": vectors - unit(2 * vectors - vectors.mean(dim=0))}

    def inverse_lambda(self, shots: Tensor) -> Tensor:
        """1 / lambda of each class, (K,)."""
        return shots.clamp(max=LARGEST_NUMBER)
