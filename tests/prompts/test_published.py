"""Published sets of prompts: every layout of every set gives the same prompts, split by what the prompts are."""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hub import cached
from prompt_lists import told, write
from published_sets import GENEVAL, LAYOUTS, NUM, SINGLE, lay, lines, rows
from trimpot.engine.bucket import PromptSet
from trimpot.ground.errors import ConfigError, Notice
from trimpot.prompts.published import DRAWN, OF_TRAINING, PUBLISHED, TEST_SHARE, VALIDATION_SHARE
from trimpot.setup.plugins import plugins

CASES = [(name, layout) for name, layouts in LAYOUTS.items() for layout in layouts]
OWN = {"t2i-compbench": 180, "hpdv3": 60, "pickapic": 60}  # test prompts in the small files of sets with splits


def make(name: str, **options: Any) -> PromptSet:
    made: PromptSet = plugins().make("prompts", name, options)
    return made


def quietly(name: str, **options: Any) -> PromptSet:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Notice)
        return make(name, **options)


def refusal(name: str, **options: Any) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the hub's client may warn that no token is set
        with pytest.raises(ConfigError) as error:
            make(name, **options)
    said = str(error.value)
    assert "\n" not in said and not said.endswith(".") and len(said) < 700
    return said


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    yield


def test_every_set_has_a_licence_a_paper_a_split_rule_and_small_files() -> None:
    assert set(LAYOUTS) == set(PUBLISHED)
    for row in PUBLISHED.values():
        assert row.licence and "arXiv" in row.citation and row.split and row.home.startswith("https://")
        about = plugins().get("prompts", next(name for name, each in PUBLISHED.items() if each is row)).factory.__doc__
        assert about is not None and row.licence in about and row.citation in about


@pytest.mark.parametrize(("name", "layout"), CASES)
def test_every_layout_of_a_set_gives_the_same_prompts(tmp_path: Path, name: str, layout: str) -> None:
    first = next(iter(LAYOUTS[name].values()))
    made = quietly(name, source=str(lay(tmp_path / "a", LAYOUTS[name][layout])))
    known = quietly(name, source=str(lay(tmp_path / "b", first)))
    assert made.fingerprint == known.fingerprint
    assert not set(made.metadata) - set(made.all)
    assert {key for about in made.metadata.values() for key in about} <= {"category", "challenge"}


@pytest.mark.parametrize(("name", "layout"), CASES)
@pytest.mark.parametrize("source", ["{0}", "https://huggingface.co/datasets/{0}"])
def test_every_layout_is_found_on_the_hub(
    tmp_path: Path, hub_cache: Path, offline: None, name: str, layout: str, source: str
) -> None:
    folder = lay(tmp_path / "a", LAYOUTS[name][layout])
    cached(hub_cache, "owner/prompts", folder, "datasets")
    assert quietly(name, source=source.format("owner/prompts")) == quietly(name, source=str(folder))


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_set_has_a_source_of_its_own(tmp_path: Path, hub_cache: Path, offline: None, name: str) -> None:
    folder = lay(tmp_path / "a", LAYOUTS[name]["hub"])
    cached(hub_cache, PUBLISHED[name].hub, folder, "datasets")
    assert quietly(name) == quietly(name, source=str(folder))


@pytest.mark.parametrize("name", PUBLISHED)
def test_only_files_of_prompts_are_downloaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    """What the hub's client is asked for are patterns that no archive of pictures fits."""
    import fnmatch

    import huggingface_hub

    asked: list[dict[str, Any]] = []

    def snapshot(repository: str, **options: Any) -> str:
        asked.append(options)
        return str(lay(tmp_path / "a", LAYOUTS[name]["hub"]))

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    quietly(name, revision="v2")
    [options] = asked
    assert options["repo_type"] == "dataset" and options["revision"] == "v2"
    for picture in ("images.tar.gz.000", "train.tar.gz", "images/1.jpg", "test/images.zip", "00015.tar"):
        assert not any(fnmatch.fnmatch(picture, pattern) for pattern in options["allow_patterns"])


@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.parametrize("suffix", SINGLE)
def test_one_plain_file_is_split_by_the_digest_of_each_prompt(tmp_path: Path, name: str, suffix: str) -> None:
    made = quietly(name, source=str(SINGLE[suffix](tmp_path)))
    assert set(made.all) == {prompt for prompt, _ in rows("single")}
    assert made == quietly(name, source=str(SINGLE["txt"](tmp_path)))


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_test_prompts_are_the_set_s_own_or_the_share_that_its_rule_says(tmp_path: Path, name: str) -> None:
    made = quietly(name, source=str(lay(tmp_path, LAYOUTS[name]["hub"])))
    for pool in (made.train, made.validation, made.test):
        assert len(set(pool)) == len(pool)
    if name in OWN:
        assert len(made.test) == OWN[name] and PUBLISHED[name].split != DRAWN
        assert {"train"} == {prompt.split()[-2] for prompt in made.train}
        assert {prompt.split()[-2] for prompt in made.test} == {"val" if name == "t2i-compbench" else "test"}
        assert name == "pickapic" or 0.02 < len(made.validation) / len((*made.train, *made.validation)) < 0.25
    else:
        assert PUBLISHED[name].split == DRAWN and len(made.all) == NUM


def test_the_rules_name_the_shares_that_are_used(tmp_path: Path) -> None:
    """Of many prompts, as many percent as the rule says."""
    source = write(tmp_path, "txt", rows("many", num=4000))
    made = make("parti", source=str(source))
    shares = [len(pool) / 4000 for pool in (made.test, made.validation, made.train)]
    assert shares == pytest.approx([0.3, 0.2, 0.5], abs=0.02)
    test, validation, drawn = (round(100 * share) for share in (TEST_SHARE, VALIDATION_SHARE, OF_TRAINING))
    assert f"about {test} % test, {validation} % validation, {100 - test - validation} % training" in DRAWN
    for name in ("t2i-compbench", "hpdv3"):
        assert f"by digest {drawn} % validate" in PUBLISHED[name].split


def test_a_prompt_stays_in_its_split_whatever_else_the_file_holds(tmp_path: Path) -> None:
    few = make("parti", source=str(write(tmp_path, "txt", rows("a"), "few")))
    more = [*rows("b"), *rows("a")]
    random.Random(0).shuffle(more)
    many = make("parti", source=str(write(tmp_path, "txt", more, "many")))
    for split in ("train", "validation", "test"):
        kept = [prompt for prompt in getattr(many, split) if prompt.startswith("a ")]
        assert kept == list(getattr(few, split))


@pytest.mark.parametrize("name", PUBLISHED)
def test_fewer_prompts_are_the_first_of_more(tmp_path: Path, name: str) -> None:
    source = str(lay(tmp_path, LAYOUTS[name]["hub"]))
    whole = quietly(name, source=source)
    fewer = quietly(name, source=source, num_train=5, num_validation=2, num_test=7)
    assert (fewer.train, fewer.validation, fewer.test) == (whole.train[:5], whole.validation[:2], whole.test[:7])
    assert set(fewer.metadata) == {prompt for prompt in fewer.all if prompt in whole.metadata}


def test_large_sets_are_limited_unless_more_is_asked_for(tmp_path: Path) -> None:
    lists = {"train.txt": lines(rows("t", num=24_000)), "test.txt": lines(rows("e"))}
    source = str(lay(tmp_path, lists))
    made = make("hpdv3", source=source)
    assert (len(made.train), len(made.validation), len(made.test)) == (20_000, 2_000, 60)
    assert len(make("hpdv3", source=source, num_train=21_000).train) == 21_000


def test_a_training_prompt_that_is_held_out_too_is_left_out_and_told(tmp_path: Path) -> None:
    """As in HPDv3, where train and test files share prompts."""
    lists = {"train.txt": lines([*rows("t"), *rows("e")]), "test.txt": lines(rows("e"))}
    made, notices = told(lambda: make("hpdv3", source=str(lay(tmp_path, lists))))
    assert set(made.test) == {prompt for prompt, _ in rows("e")}
    assert {prompt[0] for prompt in (*made.train, *made.validation)} == {"t"}
    assert any("train prompts are held out too, such as 'e " in notice for notice in notices)


def test_categories_choose_prompts_by_list_or_column(tmp_path: Path) -> None:
    source = str(lay(tmp_path / "t2i", LAYOUTS["t2i-compbench"]["lists"]))
    made = make("t2i-compbench", source=source, categories=["color", "3d_spatial"])
    assert {prompt.split()[0] for prompt in made.all} == {"color", "3d_spatial"}
    assert made.metadata[made.test[0]] == {"category": made.test[0].split()[0]}
    parti = quietly("parti", source=str(lay(tmp_path / "p", LAYOUTS["parti"]["hub"])), categories=["Kind 1"])
    assert {about["category"] for about in parti.metadata.values()} == {"Kind 1"} and len(parti.all) == 20


# ---------------------------------------------------------------------------------------------------------------
# The paper's protocol.


def test_the_paper_s_protocol_trains_and_selects_on_one_set_and_reports_on_another(tmp_path: Path) -> None:
    """Calibri, section 4: T2I-CompBench++'s train prompts and test prompts, then HPDv3's test prompts."""
    compbench = str(lay(tmp_path / "t2i", LAYOUTS["t2i-compbench"]["hub"]))
    hpdv3 = str(lay(tmp_path / "hpd", LAYOUTS["hpdv3"]["hub"]))
    made = quietly("calibri", t2i_compbench=compbench, hpdv3=hpdv3)
    own = quietly("t2i-compbench", source=compbench)
    assert set(made.train) == {*own.train, *own.validation} and set(made.validation) == set(own.test)
    assert set(made.test) == set(quietly("hpdv3", source=hpdv3).test)
    assert {about["category"] for about in made.metadata.values()} == {"color", "3d_spatial", "non_spatial"}


def test_the_paper_s_protocol_is_one_word(tmp_path: Path, hub_cache: Path, offline: None) -> None:
    """From the hub, of which only the test file of HPDv3 is needed; or from that file alone."""
    cached(
        hub_cache, PUBLISHED["t2i-compbench"].hub, lay(tmp_path / "t2i", LAYOUTS["t2i-compbench"]["hub"]), "datasets"
    )
    hpdv3 = lay(tmp_path / "hpd", LAYOUTS["hpdv3"]["hub"])
    (hpdv3 / "train.json").unlink()
    cached(hub_cache, PUBLISHED["hpdv3"].hub, hpdv3, "datasets")
    made = quietly("calibri")
    assert (len(made.train), len(made.validation), len(made.test)) == (180, 180, 60)
    assert quietly("calibri", hpdv3=str(hpdv3 / "test.json")) == made
    assert len(quietly("calibri", num_train=9, num_test=3).all) == 192


def test_the_paper_s_protocol_needs_lists_to_train_and_lists_to_select_on(tmp_path: Path) -> None:
    one = str(write(tmp_path, "txt", rows("one")))
    assert "has no split for training and another for selecting" in refusal("calibri", t2i_compbench=one, hpdv3=one)


# ---------------------------------------------------------------------------------------------------------------
# GenEval, whose own prompts need no file.


@pytest.mark.parametrize("layout", GENEVAL)
def test_geneval_s_files_bring_prompts_and_what_they_must_show(
    tmp_path: Path, hub_cache: Path, offline: None, layout: str
) -> None:
    folder = lay(tmp_path / "a", GENEVAL[layout])
    made = make("geneval", source=str(folder), train=3, validation=2)
    cached(hub_cache, "owner/geneval", folder, "datasets")
    assert make("geneval", source="owner/geneval", train=3, validation=2) == made
    assert all(made.metadata[prompt]["include"] for prompt in made.test)
    if layout == "benchmark":
        assert len(made.test) == 3 and len(made.train) == 15 and not set(made.train) & set(made.metadata)
    else:
        assert len(made.test) == 6 and len(made.train) == 3 and len(made.validation) == 2
        assert all("cats" not in prompt for prompt in (*made.train, *made.validation))  # they are in the test file
        assert set(made.metadata) == set(made.all)


def test_geneval_s_files_must_say_what_to_show(tmp_path: Path) -> None:
    plain = str(lay(tmp_path, {"test.txt": b"a photo of a bench\n"}))
    assert "does not say what 'a photo of a bench' includes" in refusal("geneval", source=plain)
    assert "give the source too" in refusal("geneval", revision="main")


# ---------------------------------------------------------------------------------------------------------------
# What cannot be used is one sentence.


@pytest.mark.parametrize("name", [*PUBLISHED, "geneval"])
def test_a_source_that_is_nothing_is_one_sentence(tmp_path: Path, name: str) -> None:
    for source in ("", " ", "./gone", "/gone/too", "~nobody/x", "\0", "a" * 5000, "a/b/c", "https://github.com/a/b"):
        assert "source" in refusal(name, source=source)
    (tmp_path / "empty").mkdir()
    assert "holds neither" in refusal(name, source=str(tmp_path / "empty"))
    assert "not on the hub, so `revision`" in refusal(name, source=str(tmp_path / "empty"), revision="main")


@pytest.mark.parametrize("name", [*PUBLISHED, "geneval"])
def test_a_repository_without_the_files_is_one_sentence(
    tmp_path: Path, hub_cache: Path, offline: None, name: str
) -> None:
    cached(hub_cache, "owner/other", lay(tmp_path / "a", {"README.md": b"# pictures"}), "datasets")
    said = refusal(name, source="owner/other")
    assert "owner/other, as downloaded from the hub, holds neither" in said and "or one file of prompts" in said


@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "parquet"])
def test_a_set_without_the_column_names_those_it_has(tmp_path: Path, name: str, suffix: str) -> None:
    path = SINGLE[suffix](tmp_path)
    assert "has no column 'words'; known: " in refusal(name, source=str(path), column="words")
    other = write(tmp_path, "jsonl", [], "other")
    other.write_text('{"words": "a cat", "kind": "animals"}\n{"words": "a dog", "kind": "animals"}\n')
    said = refusal(name, source=str(other))
    assert "none of its columns ('words', 'kind') is known to hold the prompts" in said
    assert "none of its files has columns" in refusal(name, source=str(SINGLE["txt"](tmp_path)), column="words")


def test_a_column_can_be_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(f'{{"words": "{prompt}", "prompt": 3}}\n' for prompt, _ in rows("mine")))
    assert len(make("parti", source=str(path), column="words").all) == NUM


@pytest.mark.parametrize("name", PUBLISHED)
def test_more_prompts_than_there_are_is_one_sentence(tmp_path: Path, name: str) -> None:
    source = str(lay(tmp_path, LAYOUTS[name]["hub"]))
    whole = quietly(name, source=source)
    for split in ("train", "validation", "test"):
        number = len(getattr(whole, split))
        said = refusal(name, source=source, **{f"num_{split}": number + 1})
        assert f"have {number} {split} prompts, not {number + 1}; set num_{split} to at most {number}" in said
        assert len(getattr(quietly(name, source=source, **{f"num_{split}": number}), split)) == number


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_split_left_empty_is_one_sentence(tmp_path: Path, name: str) -> None:
    said = refusal(name, source=str(write(tmp_path, "txt", [("only one", {})])))
    assert "none of its 1 prompts are left for" in said


@pytest.mark.parametrize("name", PUBLISHED)
def test_an_unknown_category_is_one_sentence(tmp_path: Path, name: str) -> None:
    said = refusal(name, source=str(lay(tmp_path, LAYOUTS[name]["hub"])), categories=["colour"])
    assert "have no category 'colour'; " in said
    assert ("did you mean 'color'?" in said) == (name == "t2i-compbench")
    assert ("its files name none" in said) == (name in ("hpdv3", "pickapic"))
    said = refusal(name, source=str(lay(tmp_path, LAYOUTS[name]["hub"])), categories=[])
    assert "categories is empty; leave it out" in said


def test_lists_of_a_half_finished_download_are_not_taken_for_the_set(tmp_path: Path) -> None:
    folder = lay(tmp_path, LAYOUTS["t2i-compbench"]["lists"])
    (folder / "color_val.txt").unlink()
    assert "holds no test list of color, though another list of it" in refusal("t2i-compbench", source=str(folder))
