"""Agreement of two maps, against SciPy and scikit-image."""

import pytest
import torch
from metric_toys import images
from scipy.stats import spearmanr
from skimage.metrics import structural_similarity

from runners.measures.agreement import agreement
from runners.measures.common import ranks
from taxonomy.errors import ImageError


@pytest.mark.parametrize("shape", [(3, 12, 15), (3, 9, 8, 10), (3, 4, 9, 9), (3, 1, 9, 9)])
@pytest.mark.parametrize("absolute", [False, True])
def test_against_scipy_and_scikit_image(shape, absolute):
    a = images(*shape)
    b = 20 * (a + 0.7 * images(3, *shape[1:]).roll(2, 1)).round()  # ties, another scale
    found = agreement(a, b, absolute=absolute)
    if absolute:
        a, b = a.abs(), b.abs()
    for i in range(3):
        first, second = (t[i].double().numpy() / t[i].abs().max().item() for t in (a, b))
        assert float(found.rank[i]) == pytest.approx(spearmanr(first.ravel(), second.ravel()).statistic)
        spread = max(first.max(), second.max()) - min(first.min(), second.min())
        side = min(7, *shape[1:])
        side -= 1 - side % 2
        if side > 1:
            peer = structural_similarity(first, second, win_size=side, data_range=spread)
            assert float(found.ssim[i]) == pytest.approx(peer, abs=1e-9)
    alone = agreement(a[1:2], b[1:2])
    assert torch.allclose(
        torch.stack([alone.rank, alone.ssim]), torch.stack([agreement(a, b).rank, agreement(a, b).ssim])[:, 1:2]
    )


def test_known_answers():
    a = images(2, 10, 10)
    same, other = agreement(a, 3 * a), agreement(a, -a)
    assert torch.allclose(torch.stack([same.rank, same.ssim]), torch.ones(2, 2, dtype=torch.float64))
    assert torch.allclose(other.rank, torch.tensor(-1.0).double())
    assert (other.ssim < 0.5).all()
    assert torch.allclose(agreement(a, -a, absolute=True).ssim, torch.tensor(1.0).double())
    flat = agreement(a, torch.ones_like(a))
    assert flat.rank.isnan().all()
    assert agreement(a, torch.zeros_like(a)).ssim.isnan().all()
    with pytest.raises(ImageError, match="both must be"):
        agreement(a, a[:1])


def test_ranks_are_those_of_scipy():
    from scipy.stats import rankdata

    values = (images(4, 50) * 3).round()
    assert torch.equal(ranks(values), torch.from_numpy(rankdata(values.numpy(), axis=1)))
    assert torch.equal(ranks(values[0]), ranks(values)[0])
