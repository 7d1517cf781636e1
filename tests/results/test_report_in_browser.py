"""The report in headless Chromium: what a reader clicks on."""

import shutil
from importlib.util import find_spec

import pytest

from tests.results.test_report import write

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
DRIVER = shutil.which("chromedriver")

pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER and find_spec("selenium")),
    reason="takes Debian's chromium and chromium-driver, and selenium",
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """The report of two datasets, opened from disk."""
    webdriver = pytest.importorskip("selenium.webdriver")
    folder = tmp_path_factory.mktemp("browser")
    write(folder, datasets=["pets", "cars"])
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", "--no-sandbox", "--window-size=400,900"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(executable_path=DRIVER)
    driver = webdriver.Chrome(options=options, service=service)
    driver.get((folder / "report.html").as_uri())
    yield driver
    driver.quit()


def column(browser, place):
    cells = f"table.sortable tbody tr td:nth-child({place})"
    found = browser.find_element("css selector", "table.sortable")
    return [cell.text for cell in found.find_elements("css selector", cells.partition(" ")[2])]


def test_a_click_on_a_columns_name_sorts_by_it(browser):
    head = browser.find_element("css selector", "table.sortable thead th:nth-child(3) button")
    head.click()
    assert column(browser, 3) == sorted(column(browser, 3))
    head.click()
    assert column(browser, 3) == sorted(column(browser, 3), reverse=True)


def test_the_dataset_that_is_chosen_is_shown_alone(browser):
    browser.find_element("css selector", "#dataset option[value='cars']").click()
    parts = browser.find_elements("css selector", "[data-dataset]")
    shown = {part.get_attribute("data-dataset") for part in parts if part.is_displayed()}
    assert shown == {"cars"}
    browser.find_element("css selector", "#dataset option[value='']").click()


def test_the_page_fits_a_telephones_width_and_nothing_is_wrong_in_the_console(browser):
    width = browser.execute_script("return document.documentElement.scrollWidth")
    assert width <= browser.execute_script("return window.innerWidth")
    assert browser.get_log("browser") == []
