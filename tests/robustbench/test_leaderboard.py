"""Leaderboards: what is read, what is refused, the text files, and the page in a real browser."""

from __future__ import annotations

import html
import json
import re
import shutil
from collections.abc import Iterator
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.select import Select

from rs_plugin.errors import InputError
from rs_plugin.robustbench.leaderboard import read_entries, write_leaderboard
from rs_plugin.robustbench.leaderboard.entries import ranks, short_eps

#: What stands in a file as ``benchmark`` writes it.
INFO: dict[str, Any] = {
    "link": "", "name": "", "authors": "", "additional_data": False, "number_forward_passes": 900, "dataset": "cifar10",
    "venue": "", "architecture": "", "eps": "0.25", "clean_acc": "70.00", "reported": "", "footnote": "",
    "certified_acc": "60.00", "certified_interval": ["58.00", "62.00"], "base_acc": "75.00", "abstained": "2.00",
    "certified_curve": [[0.0, "70.00"], [0.25, "60.00"], [0.5, "40.00"]], "noise": "gaussian(sigma=0.25)",
    "method": "closed_form", "stopping": "anytime", "n0": 100, "n": 10000, "alpha": 0.001, "seed": 0, "images": 500,
    "subset": "every_20th", "run_key": "ab" * 32, "package_version": "0.1.0",
}  # fmt: skip

SCRIPT = "<script>document.title='owned'</script>"
IMAGE = "\"'><img src=x onerror=\"document.title='owned'\">"


def put(folder: Path, path: str = "cifar10/L2/Mine", **changes: Any) -> Path:
    """Write one file below a folder of model_info files."""
    file = folder / f"{path}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({**INFO, **changes}), encoding="utf-8")
    return file


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three models of one norm, one of another, and a file of RobustBench's own."""
    info = tmp_path / "model_info"
    put(info, "cifar10/L2/Low", certified_acc="50.00", n=1000, name="Low one", venue="ICML 2019")
    put(info, "cifar10/L2/High", certified_acc="65.10", attacked_acc="69.99", attack="pgd", link="https://a.org/x?a=1&b=2")
    put(info, "digits/L2/Other", certified_acc="90.00", eps="0.5", noise="laplace(b=0.25)")
    put(info, "cifar10/Linf/Mine", certified_acc="33.33", eps=repr(8 / 255))
    theirs = info / "cifar10" / "Linf" / "Theirs2020.json"
    theirs.write_text(json.dumps({"clean_acc": "88.0", "autoattack_acc": "50.1"}))
    (info / "cifar10" / "corruptions").mkdir()
    shutil.copy(theirs, info / "cifar10" / "corruptions" / "Theirs2020.json")
    return info


class TestEntries:
    def test_order_and_ranks(self, folder: Path) -> None:
        put(folder, "cifar10/L2/Equal", certified_acc="50.00")
        entries, others = read_entries(folder)
        assert [e.name for e in entries] == ["High", "Equal", "Low", "Other", "Mine"]
        assert ranks(entries) == [1, 2, 2, 1, 1]
        assert sorted(path.parent.name for path in others) == ["Linf", "corruptions"]
        high = entries[0]
        assert (high.certified, high.attacked, high.eps) == (Decimal("65.10"), Decimal("69.99"), 0.25)
        assert high.interval == (Decimal("58.00"), Decimal("62.00")) and high.title == "High"
        assert entries[2].title == "Low one" and entries[2].attacked is None

    def test_figures_are_rounded_to_the_safe_side(self, tmp_path: Path) -> None:
        put(tmp_path, certified_acc="60.129", attacked_acc="63.121", certified_interval=["50.019", "70.011"])
        (entry,), _ = read_entries(tmp_path)
        assert (entry.certified, entry.attacked) == (Decimal("60.12"), Decimal("63.13"))
        assert entry.interval == (Decimal("50.01"), Decimal("70.02"))

    def test_what_benchmark_may_write_is_read(self, tmp_path: Path) -> None:
        put(tmp_path, seed=-1, eps="8/255", n0="", subset=None, abstained="")
        (entry,), _ = read_entries(tmp_path)
        assert (entry.seed, entry.eps, entry.n0, entry.subset, entry.abstained) == (-1, 8 / 255, None, "", None)

    def test_radii_are_never_shown_larger_than_they_are(self, folder: Path, tmp_path: Path) -> None:
        for eps, shown in ((0.9999999, "0.999999"), (8 / 255 - 3e-9, "0.0313725"), (0.12345678, "0.123456")):
            assert short_eps(eps) == shown and float(shown) <= eps
        curve = [[0.0, "70.00"], [0.12345999, "55.00"], [0.99996, "40.00"]]
        put(folder, "cifar10/L2/Fine", certified_curve=curve)
        write_leaderboard(folder, tmp_path / "out")
        page = (tmp_path / "out" / "L2.html").read_text(encoding="utf-8")
        assert "55.00 at 0.123459; 40.00 at 0.99996" in " ".join(page.split())

    def test_attacks_below_certificates_are_told(self, tmp_path: Path) -> None:
        for attacked, contradicted in (("60.00", False), ("59.99", True), ("", False)):
            put(tmp_path, attacked_acc=attacked)
            assert read_entries(tmp_path)[0][0].contradicted == contradicted

    @pytest.mark.parametrize(
        "link", ["javascript:alert(1)", "JavaScript:alert(1)", "data:text/html,x", "//a.org", " javascript:x", "a.org"]
    )
    def test_only_web_addresses_are_links(self, link: str, tmp_path: Path) -> None:
        put(tmp_path, link=link)
        assert read_entries(tmp_path)[0][0].address is None
        write_leaderboard(tmp_path, tmp_path / "out")
        assert "<a " not in (tmp_path / "out" / "L2.html").read_text(encoding="utf-8")
        assert "](" not in (tmp_path / "out" / "L2.md").read_text(encoding="utf-8")

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"n": None}, "a certified accuracy but no n;"),
            ({"alpha": ""}, "no alpha"),
            ({"certified_acc": "101"}, "certified_acc = '101'; it must be a percentage"),
            ({"certified_acc": "nan"}, "certified_acc = 'nan'"),
            ({"certified_acc": True}, "certified_acc = True"),
            ({"certified_acc": "sixty"}, "certified_acc = 'sixty'"),
            ({"eps": "-1"}, "eps = '-1'; it must be a radius of 0 or more"),
            ({"eps": "inf"}, "eps = 'inf'"),
            ({"n": 1.5}, "n = 1.5; it must be a whole number of 1 or more"),
            ({"images": 0}, "images = 0"),
            ({"alpha": 2}, "alpha = 2; it must be a number from 0 to 1"),
            ({"noise": ["a"]}, r"noise = \['a'\]; it must be a text"),
            ({"certified_interval": "50"}, "two percentages"),
            ({"certified_curve": [[0.2, "50"], [0.1, "40"]]}, "radii that rise"),
            ({"certified_curve": [[0.1, "50"], [0.2, "60"]]}, "a percentage that does not"),
            ({"certified_curve": [[0.1]]}, "radii that rise"),
            ({"certified_curve": "x"}, "radii that rise"),
        ],
        ids=str,
    )
    def test_impossible_files(self, changes: dict[str, Any], words: str, folder: Path, tmp_path: Path) -> None:
        put(folder, "cifar10/L1/Broken", **changes)
        with pytest.raises(InputError, match=f"Broken.json' has .*{words}"):
            write_leaderboard(folder, tmp_path / "out")
        assert not (tmp_path / "out").exists()

    def test_nothing_to_show(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="is not a folder"):
            read_entries(tmp_path / "none")
        with pytest.raises(InputError, match="holds no file with a certified accuracy"):
            write_leaderboard(tmp_path, tmp_path / "out")
        put(tmp_path).write_text("{")
        with pytest.raises(InputError, match=r"cannot read .*Mine.json"):
            read_entries(tmp_path)


class TestTexts:
    def test_files(self, folder: Path, tmp_path: Path) -> None:
        written, entries, others = write_leaderboard(folder, tmp_path / "out")
        names = ["L2.html", "L2.md", "L2.tex", "Linf.html", "Linf.md", "Linf.tex", "board.yml"]
        assert sorted(path.name for path in written) == names
        assert (len(entries), len(others)) == (4, 2)

    def test_pages_of_threat_models_without_entries_go(self, folder: Path, tmp_path: Path) -> None:
        out = tmp_path / "out"
        write_leaderboard(folder, out)
        (out / "mine.md").touch()
        (folder / "cifar10" / "Linf" / "Mine.json").unlink()
        write_leaderboard(folder, out)
        assert sorted(path.name for path in out.iterdir()) == ["L2.html", "L2.md", "L2.tex", "board.yml", "mine.md"]

    def test_markdown(self, folder: Path, tmp_path: Path) -> None:
        put(folder, "cifar10/L2/Evil", name="a | b `c` [d](javascript:e) <b> *f*", certified_acc="1.00")
        write_leaderboard(folder, tmp_path)
        lines = (tmp_path / "L2.md").read_text(encoding="utf-8").splitlines()
        table = [re.split(r"(?<!\\)\|", line) for line in lines if line.startswith("|")]
        assert len({len(cells) for cells in table}) == 1 and len(table) == 6
        assert "[High](https://a.org/x?a=1&b=2)" in lines[2] and "| 65.10 | 58.00-62.00 | 69.99 |" in lines[2]
        assert r"a \| b \`c\` \[d\]\(javascript:e\) &lt;b&gt; \*f\*" in lines[4]

    def test_latex(self, folder: Path, tmp_path: Path) -> None:
        put(folder, "cifar10/L2/Evil", name=r"\input{x} & 50 % $a_1^2$ #~", certified_acc="1.00")
        write_leaderboard(folder, tmp_path)
        text = (tmp_path / "L2.tex").read_text(encoding="utf-8")
        rows = [line for line in text.splitlines() if line.endswith(r"\\")]
        assert {len(re.findall(r"(?<!\\)&", row)) for row in rows} == {14}
        evil = r"\textbackslash{}input\{x\} \& 50 \% \$a\_1\textasciicircum{}2\$ \#\textasciitilde{}"
        assert evil in text
        assert len(re.search(r"tabular\}\{(\w+)\}", text)[1]) == 15  # type: ignore[index]

    def test_board(self, folder: Path, tmp_path: Path) -> None:
        """The form is that of the board's file, read by another parser than wrote it."""
        put(folder, "cifar10/L2/Unsure", alpha=0.01, certified_acc="99.00")
        put(folder, "cifar10/L2/Evil", name=f'{SCRIPT} "quoted": {{% raw 𝓐', certified_acc="1.00")
        write_leaderboard(folder, tmp_path)
        text = (tmp_path / "board.yml").read_text(encoding="utf-8")
        board = yaml.safe_load(text)
        assert [group["setting"] for group in board] == [
            r"CIFAR-10,&nbsp; \(\ell_2\),&nbsp; \(\epsilon=0.25\)",
            r"digits,&nbsp; \(\ell_2\),&nbsp; \(\epsilon=0.5\)",
            r"CIFAR-10,&nbsp; \(\ell_\infty\),&nbsp; \(\epsilon=8/255\)",
        ]
        records = board[0]["records"]
        assert [record["score"] for record in records] == ["65.10%", "50.00%", "1.00%"]
        assert records[0]["prob"] is True and records[0]["link"] == "https://a.org/x?a=1&amp;b=2"
        assert records[1]["venue"] == "ICML 2019" and "venue" not in records[0]  # a preprint on the board
        assert "<" not in records[2]["title"] and records[2]["title"].endswith("𝓐")
        assert "gaussian(sigma=0.25), n = 10000" in records[0]["comment"]
        assert '# Left out, since alpha = 0.01 > 0.001: "Unsure"' in text

    def test_no_line_begins_inside_a_text(self, folder: Path, tmp_path: Path) -> None:
        """YAML ends lines, and comments, at more characters than JSON escapes."""
        evil = "e\u2028- setting: evil\u2028  records: []\u2028#"
        put(folder, f"cifar10/L2/{evil}", alpha=0.01)
        put(folder, "a\nb/L2/Other", name="x\x7f\x85y", noise=evil)
        write_leaderboard(folder, tmp_path)
        board = yaml.safe_load((tmp_path / "board.yml").read_text(encoding="utf-8"))
        assert all("evil" not in group["setting"] for group in board) and len(board) == 4
        table = [line for line in (tmp_path / "L2.md").read_text(encoding="utf-8").splitlines() if line]
        assert sum(line.startswith("|") for line in table) == 2 + 5 and "| a b |" in "\n".join(table)

    def test_an_empty_board_is_a_list(self, tmp_path: Path) -> None:
        put(tmp_path, alpha=0.05)
        write_leaderboard(tmp_path, tmp_path / "out")
        assert yaml.safe_load((tmp_path / "out" / "board.yml").read_text(encoding="utf-8")) == []


class Tags(HTMLParser):
    """Collects the tags of a page, and the texts outside of scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag."""
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        """Note a text."""
        if self.tags and self.tags[-1][0] not in ("script", "style"):
            self.text += data


def test_the_page_fetches_nothing_and_holds_everything(folder: Path, tmp_path: Path) -> None:
    evil = dict.fromkeys(("name", "authors", "venue", "architecture", "footnote", "method", "attack"), SCRIPT + IMAGE)
    put(folder, "cifar10/L2/Evil", noise=IMAGE, subset=SCRIPT, run_key=IMAGE, package_version=SCRIPT, **evil)
    write_leaderboard(folder, tmp_path)
    page = Tags((tmp_path / "L2.html").read_text(encoding="utf-8"))
    names = [tag for tag, _ in page.tags]
    assert names.count("script") == names.count("style") == 1 and "img" not in names and "iframe" not in names
    for tag, attributes in page.tags:
        assert not any(name.startswith("on") for name in attributes), (tag, attributes)
        for name in ("src", "href", "action"):
            assert (attributes.get(name) or "data:,") in ("data:,", "https://a.org/x?a=1&b=2"), (tag, attributes)
    for figure in ("65.10", "69.99", "70.00", "75.00", "10000", "0.001", "anytime", "closed_form", "every_20th"):
        assert figure in page.text, figure


# In a browser -------------------------------------------------------------------------------------------------------


def _driver(folder: Path, *, scripts: bool) -> webdriver.Chrome:
    options = webdriver.ChromeOptions()
    options.binary_location = str(shutil.which("chromium"))
    for word in (
        "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync", "--window-size=1400,1000",
        f"--user-data-dir={folder}",
    ):  # fmt: skip
        options.add_argument(word)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    if not scripts:
        options.add_experimental_option("prefs", {"profile.managed_default_content_settings.javascript": 2})
    return webdriver.Chrome(options=options, service=webdriver.ChromeService(str(shutil.which("chromedriver"))))


needs_browser = pytest.mark.skipif(
    shutil.which("chromium") is None or shutil.which("chromedriver") is None,
    reason="chromium and chromedriver are not installed",
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    driver = _driver(tmp_path_factory.mktemp("profile"), scripts=True)
    yield driver
    driver.quit()


@needs_browser
class TestBrowser:
    @pytest.fixture
    def page(self, browser: webdriver.Chrome, folder: Path, tmp_path: Path) -> webdriver.Chrome:
        put(folder, "cifar10/L2/Evil", name=SCRIPT, footnote=IMAGE, link="javascript:document.title='owned'",
            certified_acc="1.00", certified_curve=[], n=300, noise="laplace(b=0.125)")  # fmt: skip
        write_leaderboard(folder, tmp_path)
        browser.get((tmp_path / "L2.html").as_uri())
        return browser

    def shown(self, page: webdriver.Chrome) -> list[str]:
        rows = page.find_elements(By.CSS_SELECTOR, "tbody tr")
        titles = [row.get_attribute("data-title") for row in rows if row.is_displayed()]
        return [str(title)[:8] for title in titles]

    def head(self, page: webdriver.Chrome, name: str) -> Any:
        return page.find_element(By.XPATH, f"//thead//button[text()='{name}']")

    def silent(self, page: webdriver.Chrome) -> None:
        log = page.get_log("browser")  # type: ignore[no-untyped-call]
        assert log == []
        assert page.title == "Certified robustness, L2"

    def test_sorts(self, page: webdriver.Chrome) -> None:
        assert self.shown(page) == ["High", "Low one", "<script>", "Other"]
        head = self.head(page, "Certified")
        head.click()
        assert self.shown(page) == ["Other", "High", "Low one", "<script>"]
        assert head.find_element(By.XPATH, "..").get_attribute("aria-sort") == "descending"
        head.click()
        assert self.shown(page) == ["<script>", "Low one", "High", "Other"]
        assert head.find_element(By.XPATH, "..").get_attribute("aria-sort") == "ascending"
        self.head(page, "Attacked").click()  # what is unknown comes last
        assert self.shown(page)[0] == "High"
        self.head(page, "Noise").send_keys(Keys.ENTER)
        assert self.shown(page)[:2] == ["High", "Low one"] or self.shown(page)[:2] == ["Low one", "High"]
        self.head(page, "n").click()
        assert self.shown(page)[-2:] == ["Low one", "<script>"]  # 10 000 before 1 000 before 300: numbers, not texts
        self.silent(page)

    def test_filters(self, page: webdriver.Chrome) -> None:
        count = page.find_element(By.ID, "count")
        assert count.text == "4 of 4 models"
        search = page.find_element(By.ID, "search")
        search.send_keys("laplace")
        assert self.shown(page) == ["<script>", "Other"] and count.text == "2 of 4 models"
        dataset, eps = (Select(page.find_element(By.ID, name)) for name in ("dataset", "eps"))
        dataset.select_by_visible_text("digits")
        assert self.shown(page) == ["Other"]
        search.clear()
        search.send_keys("x")
        dataset.select_by_visible_text("all")
        eps.select_by_visible_text("0.25")
        search.send_keys(Keys.BACKSPACE)
        assert self.shown(page) == ["High", "Low one", "<script>"]
        search.send_keys(Keys.ENTER)  # sends no form
        assert len(self.shown(page)) == 3
        self.silent(page)

    def test_draws_curves(self, page: webdriver.Chrome) -> None:
        figure = page.find_element(By.ID, "figure")
        assert not figure.is_displayed()
        high, low, evil, _ = page.find_elements(By.CSS_SELECTOR, "tbody tr")
        high.find_element(By.CSS_SELECTOR, "td:nth-child(3)").click()
        assert figure.is_displayed()
        (path,) = page.find_elements(By.CSS_SELECTOR, "#chart > path")
        # Radii 0, 0.25, 0.5 at x = 50, 375, 700; 70, 60, 40 % at y = 340 - 3.2 times that.
        assert path.get_attribute("d") == "M50.00 116.00V148.00H375.00V212.00H700.00"
        assert path.size["width"] > 100 and path.size["height"] > 20
        low.send_keys(Keys.ENTER)
        assert len(page.find_elements(By.CSS_SELECTOR, "#chart > path")) == 2
        assert [item.text for item in page.find_elements(By.CSS_SELECTOR, "#legend li")] == [
            "High (cifar10)",
            "Low one (cifar10)",
        ]
        styles = {str(path.get_attribute("class")) for path in page.find_elements(By.CSS_SELECTOR, "#chart > path")}
        assert len(styles) == 2
        high.find_element(By.CSS_SELECTOR, "td:nth-child(3)").click()
        assert len(page.find_elements(By.CSS_SELECTOR, "#chart > path")) == 1
        evil.find_element(By.CSS_SELECTOR, "td:nth-child(3)").click()  # which has no curve
        assert len(page.find_elements(By.CSS_SELECTOR, "#chart > path")) == 1
        self.silent(page)

    def test_provenance_is_one_click_away(self, page: webdriver.Chrome) -> None:
        row = page.find_element(By.CSS_SELECTOR, "tbody tr")
        details = row.find_element(By.TAG_NAME, "dl")
        assert not details.is_displayed()
        row.find_element(By.TAG_NAME, "summary").click()
        text = details.text
        for part in ("ab" * 32, "cifar10/L2/High.json", "100 choose the class, up to 10000 bound it", "58.00 to 62.00"):
            assert part in text
        assert not page.find_element(By.ID, "figure").is_displayed()  # that click drew nothing
        self.silent(page)

    def test_no_script_of_a_file_runs(self, page: webdriver.Chrome) -> None:
        row = page.find_elements(By.CSS_SELECTOR, "tbody tr")[2]
        row.find_element(By.TAG_NAME, "summary").click()
        row.click()
        assert SCRIPT in row.text and html.unescape(IMAGE) in row.text
        assert page.execute_script("return document.images.length") == 0
        # The page's own policy stops what escaping might miss.
        page.execute_script("document.body.insertAdjacentHTML('beforeend', arguments[0])", IMAGE)
        page.execute_script(
            "const node = document.createElement('script');"
            "node.textContent = arguments[0];"
            "document.body.append(node)",
            "document.title = 'owned'",
        )
        assert page.title == "Certified robustness, L2"
        assert any("Content Security Policy" in entry["message"] for entry in page.get_log("browser"))  # type: ignore[no-untyped-call]


@needs_browser
def test_without_javascript(folder: Path, tmp_path: Path) -> None:
    write_leaderboard(folder, tmp_path)
    driver = _driver(tmp_path / "profile", scripts=False)
    try:
        driver.get((tmp_path / "L2.html").as_uri())
        rows = driver.find_elements(By.CSS_SELECTOR, "tbody tr")
        assert [row.text.split()[1] for row in rows] == ["High", "Low", "Other"]
        assert "65.10" in rows[0].text and "69.99" in rows[0].text
        assert not driver.find_elements(By.CSS_SELECTOR, "thead button")  # scripts are off indeed
        assert not driver.find_element(By.ID, "filters").is_displayed()
        rows[0].find_element(By.TAG_NAME, "summary").click()
        assert "70.00 at 0; 60.00 at 0.25; 40.00 at 0.5" in rows[0].text
    finally:
        driver.quit()
