"""Graph convolution over the vertices of a mesh. V vertices, E edges, n meshes."""

from __future__ import annotations

import numpy as np
import torch
from numpy import ndarray
from torch import Tensor, nn


class ChebyshevConv(nn.Module):
    """Chebyshev graph convolution (RetinaFace v2, Eq. 2): sum_k T_k(L~) x theta_k.

    Begins with weights of zero.

    Args:
        edges: (E, 2) of the mesh.
        num_vertices: V.
        order: number of polynomials, K.
    """

    def __init__(
        self, edges: ndarray, num_vertices: int, in_channels: int, out_channels: int, order: int
    ) -> None:
        super().__init__()
        laplacian = torch.from_numpy(scaled_laplacian(edges, num_vertices)).float()
        self.register_buffer("laplacian", laplacian, persistent=False)
        self.theta = nn.Parameter(torch.zeros(order, in_channels, out_channels))

    def forward(self, x: Tensor) -> Tensor:
        """(n, V, in_channels) -> (n, V, out_channels)."""
        assert isinstance(self.laplacian, Tensor)
        before, now = torch.zeros_like(x), x
        found = x @ self.theta[0]
        for index, theta in enumerate(self.theta[1:]):
            factor = 1 if index == 0 else 2  # T_1 = L~, T_k = 2 L~ T_(k-1) - T_(k-2)
            before, now = now, factor * (self.laplacian @ now) - (before if index else 0)
            found = found + now @ theta
        return found


def scaled_laplacian(edges: ndarray, num_vertices: int) -> ndarray:
    """(V, V) float64: 2 L / lambda_max - I, of the combinatorial Laplacian L = D - A."""
    adjacency = np.zeros((num_vertices, num_vertices))
    adjacency[edges[:, 0], edges[:, 1]] = adjacency[edges[:, 1], edges[:, 0]] = 1
    laplacian = np.diag(adjacency.sum(1)) - adjacency
    largest = np.linalg.eigvalsh(laplacian)[-1] if len(edges) else 1.0
    return 2 * laplacian / largest - np.eye(num_vertices)
