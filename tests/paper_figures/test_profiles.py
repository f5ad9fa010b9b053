import pytest

import rs_plugin as rs
from paper_figures import profiles
from paper_figures.printed import CIFAR10, IMAGENET, of
from paper_figures.scales import family_of, of_scale, rms


@pytest.mark.parametrize("name", ["cpu", "paper"])
def test_the_baseline_is_tried_at_every_second_moment_of_the_family(name, monkeypatch):
    monkeypatch.setenv("RS_PROFILE", name)
    chosen = profiles.profile()
    for (_, dataset), menu in chosen.menus.items():
        dim = profiles.DIMS[dataset]
        sizes = {}
        for candidate in menu:
            kind = "family" if candidate.role == "family" else "baseline"
            sizes.setdefault(kind, set()).add((candidate.model, round(rms(rs.parse_noise(candidate.noise), dim), 4)))
        assert sizes["family"] <= sizes["baseline"]
        assert len(sizes["family"]) > 0


def test_the_papers_baseline_is_at_the_scale_of_the_training():
    for menu in profiles.cpu().menus.values():
        for candidate in menu:
            if candidate.role == "trained":
                card = profiles.load_card(profiles.card_path(candidate.model))
                own, tried = rs.parse_noise(card.noise), rs.parse_noise(candidate.noise)
                assert type(own) is type(tried)
                assert rms(tried, 3072) == pytest.approx(rms(own, 3072), rel=1e-3)  # names keep four digits


def test_every_pair_is_counted_once_and_stopped_by_the_radii_of_all_its_tables():
    chosen = profiles.cpu()
    pairs = chosen.pairs()
    assert len(pairs) == len(set(pairs))
    both = {key: {(c.model, c.noise) for c in menu} for key, menu in chosen.menus.items()}
    shared = both[2, CIFAR10] & both[3, CIFAR10]
    assert shared
    model, noise = sorted(shared)[0]
    threat, radii = chosen.radii(CIFAR10, model, noise)
    assert threat == "L2"
    assert set(of(2, CIFAR10).radii) <= set(radii)
    linf = rs.certificate(rs.parse_noise(noise), "Linf", 3072).required_probability(list(of(3, CIFAR10).radii))
    l2 = rs.certificate(rs.parse_noise(noise), "L2", 3072).required_probability(list(radii))
    assert all(min(abs(p - q) for q in l2) < 1e-12 for p in linf)  # rounding of √d r


def test_a_pair_of_one_table_is_stopped_by_its_own_radii():
    chosen = profiles.cpu()
    for candidate in chosen.menus[1, CIFAR10]:
        assert chosen.radii(CIFAR10, candidate.model, candidate.noise) == ("L1", of(1, CIFAR10).radii)


def test_the_models_with_more_draws_are_on_the_menu():
    chosen = profiles.cpu()
    assert set(chosen.more) <= {c.model for menu in chosen.menus.values() for c in menu}
    assert all(n > chosen.n for n in chosen.more.values())


def test_the_paper_profile_takes_imagenet_too():
    assert {dataset for _, dataset in profiles.paper().menus} == {CIFAR10, IMAGENET}


def test_an_unknown_profile_is_refused_with_those_that_are_known(monkeypatch):
    monkeypatch.setenv("RS_PROFILE", "gpu")
    with pytest.raises(rs.UnknownNameError, match=r"'gpu' is unknown; known: cpu, paper"):
        profiles.profile()


@pytest.mark.parametrize("family", ["l1_exponential", "l2_exponential", "mixed_norm"])
@pytest.mark.parametrize("k", [0, 25, 500])
def test_members_have_the_size_that_is_asked_for(family, k):
    noise = of_scale(family, k, 0.3, 3072)
    assert rms(noise, 3072) == pytest.approx(0.3, rel=1e-5)  # scales keep six digits
    if k:
        assert family_of(noise) == (family, k)


def test_a_plain_noise_is_of_no_family():
    with pytest.raises(TypeError, match="none of the families"):
        family_of(rs.Gaussian(1.0))
