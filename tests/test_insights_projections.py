"""Pictures of a cohort: the case lies where the model sees it, and what the picture hides is measured."""

import importlib.util
import sys
import types
from dataclasses import replace

import pytest
import tagged
import torch
from sklearn.decomposition import PCA

from runners import Owned, discover
from runners.embedding import codes
from taxonomy.errors import ModelError, TargetError

SAME = "neighbours with the same label, "


def ask(method, model=None, x=None, cohort=None, **options):
    owned = Owned(cohort=cohort or tagged.cohort())
    return discover(
        model or tagged.learned(False), tagged.case() if x is None else x, method, 1, owned=owned, **options
    )


@pytest.mark.parametrize("method", ["tsne", "pca_projection"])
def test_the_case_lies_among_its_like_and_labels_agree_with_neighbours(method):
    for blob in (False, True):
        form = ask(method, x=tagged.case(blob=blob)).form
        near = (form.points - form.here).norm(dim=1).argsort()[:5].tolist()
        assert {form.labels[i] for i in near} == {"blob" if blob else "no blob"}
    assert form.measures[SAME + "for the model"] > 0.95 > 0.6 > form.measures[SAME + "by chance"]
    assert form.images.shape == (120, 1, 28, 28)
    assert torch.equal(ask(method).form.points, ask(method).form.points)
    order = torch.randperm(120, generator=torch.Generator().manual_seed(1))
    shuffled = replace(tagged.cohort(), labels=tagged.cohort().labels[order])
    assert ask(method, cohort=shuffled).form.measures[SAME + "for the model"] < 0.6


def test_components_are_those_of_the_cohort_alone():
    form = ask("pca_projection").form
    with torch.no_grad():
        vectors = codes(tagged.learned(False), torch.cat([tagged.cohort().x, tagged.case()])).double().numpy()
    truth = PCA(2).fit(vectors[:-1])
    theirs = torch.from_numpy(truth.transform(vectors)).float()
    ours = torch.cat([form.points, form.here[None]])
    for k in (0, 1):
        sign = torch.sign((ours[:, k] * theirs[:, k]).sum())
        assert ours[:, k] == pytest.approx(sign * theirs[:, k], abs=1e-3)
    share = form.measures["share of the variance that the picture shows"]
    assert share == pytest.approx(truth.explained_variance_ratio_.sum(), abs=1e-6)


def test_a_case_unlike_all_others_is_told():
    found = ask("pca_projection", x=tagged.case(blob=True) * 6)
    assert found.form.measures["share of the cohort that lies nearer to its neighbours than the case"] == 1
    assert "unlike all of them" in found.cautions[-1]


def test_umap_is_asked_for_where_it_is_missing_and_used_where_it_is_there(monkeypatch):
    if importlib.util.find_spec("umap") is None:
        with pytest.raises(ModelError, match=r'pip install "xai-atlas\[umap\]"'):
            ask("umap")

        class Stand:
            def __init__(self, **given):
                assert given == {"n_neighbors": 15, "min_dist": 0.1, "random_state": given["random_state"], "n_jobs": 1}

            def fit_transform(self, vectors):
                return vectors[:, :2]

        monkeypatch.setitem(sys.modules, "umap", types.SimpleNamespace(UMAP=Stand))
    form = ask("umap").form
    assert form.axes == ("UMAP 1", "UMAP 2")
    assert form.points.shape == (120, 2)


def test_what_cannot_be_drawn_is_told():
    with pytest.raises(TargetError, match="at least 2"):
        ask("tsne", perplexity=1.0)
    with pytest.raises(TargetError, match="by the same vector"):
        ask("tsne", cohort=replace(tagged.cohort(), x=tagged.case().expand(120, -1, -1, -1)))
