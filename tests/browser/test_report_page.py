import json
from pathlib import Path

import pytest
from run_folder import CLASSES
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select

pytestmark = pytest.mark.browser


@pytest.fixture(scope="session")
def entries(report: Path) -> list[dict]:
    index = report.parent / "gallery" / "index.json"
    return json.loads(index.read_text(encoding="utf-8"))["entries"]


def shown(browser) -> list[str]:
    """The names on the visible cards, in the order in which they stand."""
    cards = browser.find_elements(By.CSS_SELECTOR, "#cards > li")
    return [card.get_attribute("data-name") for card in cards if card.is_displayed()]


def choose(browser, control: str, value: str) -> None:
    Select(browser.find_element(By.ID, control)).select_by_value(value)


def change(entry: dict, key: str) -> float | None:
    before, after = (entry["stages"][stage][key] for stage in ("supervised", "consistency"))
    return None if before is None or after is None else after - before


def ordered(entries: list[dict], value, sign: int) -> list[str]:
    """Names by value, those without one last, ties as they were."""
    known = [entry for entry in entries if value(entry) is not None]
    unknown = [entry for entry in entries if value(entry) is None]
    known.sort(key=lambda entry: sign * value(entry))
    return [entry["name"] for entry in known + unknown]


def background(browser) -> str:
    return browser.execute_script("return getComputedStyle(document.body).backgroundColor")


def emulate(browser, *, media: str = "", **features: str) -> None:
    listed = [{"name": key.replace("_", "-"), "value": value} for key, value in features.items()]
    settings = {"media": media, "features": listed}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", settings)


def test_loads_without_a_word_on_the_console_and_without_the_network(browser, report):
    assert browser.title == "voc-animals N = 4: did attention consistency help?"
    assert browser.get_log("browser") == []
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [
        event["params"]["request"]["url"]
        for event in events
        if event["method"] == "Network.requestWillBeSent"
    ]
    assert report.as_uri() in asked
    assert [url for url in asked if not url.startswith("data:")] == [report.as_uri()]


def test_hostile_labels_execute_nothing(chromium, report):
    watch = "window.calls = []; window.alert = (what) => window.calls.push(what);"
    script = chromium.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": watch})
    try:
        chromium.get(report.as_uri())
        for control in ("class", "sort", "was", "now"):
            select = Select(chromium.find_element(By.ID, control))
            for option in range(len(select.options)):
                select.select_by_index(option)
        assert chromium.execute_script("return window.calls") == []
        assert chromium.execute_script("return document.scripts.length") == 1
    finally:
        chromium.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", script)


def test_the_policy_stops_a_script_that_is_not_ours(browser):
    browser.execute_script(
        "const s = document.createElement('script'); s.textContent = 'window.intruder = 1';"
        "document.body.append(s);"
    )
    assert browser.execute_script("return window.intruder") is None


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("change", lambda entry: change(entry, "correlation")),
        ("iou", lambda entry: change(entry, "iou")),
        ("before", lambda entry: entry["stages"]["supervised"]["correlation"]),
        ("after", lambda entry: entry["stages"]["consistency"]["correlation"]),
    ],
)
def test_sorting_orders_the_cards_by_the_records(browser, entries, key, value, sign):
    choose(browser, "sort", f"{key}:{sign}")
    assert shown(browser) == ordered(entries, value, sign)


def test_the_records_hold_an_undefined_overlap_so_that_it_is_seen_to_come_last(entries):
    assert any(change(entry, "iou") is None for entry in entries)


def test_sorting_by_name_follows_the_alphabet_and_unsorted_the_records(browser, entries):
    names = [entry["name"] for entry in entries]
    choose(browser, "sort", "name:1")
    collate = "return arguments[0].sort((a, b) => a.localeCompare(b))"
    assert shown(browser) == browser.execute_script(collate, names) != names
    choose(browser, "sort", "order:1")
    assert shown(browser) == names


@pytest.mark.parametrize("index", range(len(CLASSES)))
def test_the_class_filter_shows_exactly_the_cards_of_that_class(browser, entries, index):
    choose(browser, "class", str(index))
    expected = [entry["name"] for entry in entries if CLASSES[index] in entry["labels"]]
    assert shown(browser) == expected
    status = browser.find_element(By.ID, "shown").text
    assert status == f"{len(expected)} of {len(entries)} images"


@pytest.mark.parametrize("now", ["", "0", "1"])
@pytest.mark.parametrize("was", ["", "0", "1"])
def test_the_filters_for_right_and_wrong_combine(browser, entries, was, now):
    choose(browser, "was", was)
    choose(browser, "now", now)
    expected = [
        entry["name"]
        for entry in entries
        if all(
            wanted in ("", str(int(entry["stages"][stage]["correct"])))
            for wanted, stage in ((was, "supervised"), (now, "consistency"))
        )
    ]
    assert shown(browser) == expected


def test_show_all_undoes_sorting_and_filters(browser, entries):
    choose(browser, "sort", "change:-1")
    choose(browser, "was", "0")
    browser.find_element(By.CSS_SELECTOR, "#gallery-controls button").click()
    names = [entry["name"] for entry in entries]
    browser.execute_async_script("setTimeout(arguments[0])")
    assert shown(browser) == names


def test_every_control_is_reached_and_used_from_the_keyboard(browser, entries):
    reached = []
    for _ in range(40):
        browser.switch_to.active_element.send_keys(Keys.TAB)
        focus = browser.switch_to.active_element
        reached.append(focus.get_attribute("id") or focus.get_attribute("type"))
        if reached[-1] == "sort":
            focus.send_keys(Keys.ARROW_DOWN)
        if reached[-1] == "reset":
            break
    assert reached[-5:] == ["sort", "class", "was", "now", "reset"]
    assert shown(browser) == ordered(entries, lambda entry: change(entry, "correlation"), -1)


def test_the_first_stop_of_the_keyboard_skips_to_the_result(browser):
    browser.find_element(By.TAG_NAME, "body").send_keys(Keys.TAB)
    assert browser.switch_to.active_element.get_attribute("href").endswith("#result")
    assert browser.switch_to.active_element.rect["x"] >= 0


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_nothing_overflows_sideways(browser, width):
    size = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 700}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    root = "document.documentElement"
    assert browser.execute_script("return innerWidth") == width
    assert browser.execute_script(f"return {root}.scrollWidth - {root}.clientWidth") == 0
    wide = browser.execute_script(
        "return [...document.querySelectorAll('main :not(option)')].filter((e) => {"
        "  const box = e.getBoundingClientRect();"
        "  return box.width && box.right > innerWidth + 1 && !e.closest('.scroll, pre, .unseen')"
        "}).map((e) => e.outerHTML.slice(0, 80))"
    )
    assert wide == []


def test_dark_mode_changes_the_ground_and_the_ink(browser):
    emulate(browser, prefers_color_scheme="light")
    light = background(browser)
    emulate(browser, prefers_color_scheme="dark")
    assert light == "rgb(250, 249, 246)"
    assert background(browser) == "rgb(19, 22, 24)"


def test_print_is_black_on_white_with_all_cards_and_no_controls(browser, entries):
    sheet = {"width": 718, "height": 1047, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", sheet)
    emulate(browser, media="print", prefers_color_scheme="dark")
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 718
    assert background(browser) == "rgb(255, 255, 255)"
    assert not browser.find_element(By.ID, "gallery-controls").is_displayed()
    assert len(shown(browser)) == len(entries)


def test_all_pictures_can_be_loaded_and_have_words(browser, entries):
    """A lazy picture out of sight is never loaded, and decode() would wait for it for ever."""
    pictures = browser.execute_script(
        "return Promise.all([...document.images].map((i) => {"
        "  i.loading = 'eager';"
        "  return i.decode().then(() => [i.naturalWidth, i.alt])"
        "}))"
    )
    assert len(pictures) == 7 * len(entries)
    assert all(width > 0 and words.strip() for width, words in pictures)


def test_without_scripts_the_gallery_is_a_plain_list(browser, report, entries):
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    browser.get(report.as_uri())
    assert len(shown(browser)) == len(entries)
    assert not browser.find_element(By.ID, "gallery-controls").is_displayed()


def focused(browser) -> str | None:
    return browser.switch_to.active_element.get_attribute("data-name")


def press(browser, *keys: str) -> None:
    for key in keys:
        browser.switch_to.active_element.send_keys(key)


def into_the_gallery(browser) -> None:
    browser.execute_script("document.querySelector('#gallery-controls button').focus()")
    press(browser, Keys.TAB)


def test_arrow_keys_home_and_end_go_from_card_to_card(browser, entries):
    names = [entry["name"] for entry in entries]
    into_the_gallery(browser)
    went = [focused(browser)]
    for key in (Keys.ARROW_DOWN, Keys.ARROW_RIGHT, Keys.ARROW_UP, Keys.END, Keys.ARROW_LEFT):
        press(browser, key)
        went.append(focused(browser))
    press(browser, Keys.HOME)
    assert went == [names[at] for at in (0, 1, 2, 1, -1, -2)]
    assert focused(browser) == names[0]


def test_arrow_keys_follow_the_order_and_pass_by_what_is_filtered_out(browser):
    choose(browser, "sort", "change:-1")
    choose(browser, "now", "1")
    names = shown(browser)
    into_the_gallery(browser)
    went = [focused(browser)]
    for _ in names[1:]:
        press(browser, Keys.ARROW_DOWN)
        went.append(focused(browser))
    assert went == names
    press(browser, Keys.ARROW_DOWN)
    assert focused(browser) == names[-1]


@pytest.mark.parametrize("width", [390, 1280])
def test_the_card_with_the_focus_is_outlined_and_in_full_view(browser, width):
    size = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 700}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    into_the_gallery(browser)
    press(browser, Keys.END, Keys.ARROW_UP, Keys.ARROW_UP)
    top, covered, outline = browser.execute_script(
        "const controls = document.getElementById('gallery-controls');"
        "const sticks = getComputedStyle(controls).position === 'sticky';"
        "const card = document.activeElement;"
        "return [card.getBoundingClientRect().top,"
        "  sticks ? controls.getBoundingClientRect().bottom : 0,"
        "  getComputedStyle(card).outlineStyle]"
    )
    assert covered <= top < 844 / 2
    assert outline == "solid"


def test_the_keyboard_leaves_the_gallery_by_one_tab_in_both_directions(browser):
    into_the_gallery(browser)
    press(browser, Keys.ARROW_DOWN, Keys.TAB)
    assert browser.switch_to.active_element.tag_name == "summary"
    press(browser, Keys.SHIFT + Keys.TAB)
    assert focused(browser) is not None
    press(browser, Keys.SHIFT + Keys.TAB)
    assert browser.switch_to.active_element.get_attribute("type") == "reset"
