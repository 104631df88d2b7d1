"""A browser for Airflow's UI: Debian's Chromium, driven through chromedriver."""

from __future__ import annotations

import shutil
import time
from configparser import ConfigParser
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from dev.airflow_api import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from dev.standalone import StandaloneAirflow

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")

#: Impacts of axe's findings that keep some users from using the page.
SERIOUS = ("serious", "critical")


class Browser:
    """A browser window, signed in."""

    def __init__(self, driver: Any, airflow: StandaloneAirflow) -> None:
        self.driver, self._airflow = driver, airflow

    def open(self, path: str, *, theme: str = "light", width: int = 1400, height: int = 900) -> None:
        """Open a page of Airflow."""
        # Chromium's own windows cannot be as narrow as a phone.
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        self.driver.get(f"{self._airflow.url}/earth-engine/static/icon.svg")
        self.driver.add_cookie({"name": "_token", "value": self._airflow.authorization.split()[1], "path": "/"})
        self.driver.execute_script("localStorage.setItem('theme', arguments[0])", theme)
        self.driver.get(f"{self._airflow.url}{path}")

    def as_role(self, role: str) -> None:
        """Send all later requests as a user of another role, with the simple auth manager."""
        import jwt

        config = ConfigParser(interpolation=None)
        config.read(self._airflow.home / "airflow.cfg", encoding="utf-8")
        token = self._airflow.authorization.split()[1]
        claims = jwt.decode(token, options={"verify_signature": False}) | {"sub": role, "role": role}
        algorithm = jwt.get_unverified_header(token)["alg"]
        token = jwt.encode(claims, config["api_auth"]["jwt_secret"], algorithm)
        self.driver.execute_cdp_cmd("Network.enable", {})
        self.driver.execute_cdp_cmd("Network.setExtraHTTPHeaders", {"headers": {"Authorization": f"Bearer {token}"}})

    def see(self, text: str) -> None:
        """Wait until a text is on the page."""
        wait_until(lambda: text in self.text, what=f"{text!r} on {self.driver.current_url}")

    @property
    def text(self) -> str:
        """The visible text of the page."""
        return str(self.driver.execute_script("return document.querySelector('.ee-page')?.innerText ?? ''"))

    def see_operations(self) -> None:
        """Wait until Earth Engine has answered."""
        wait_until(self.rows, what=f"operations on {self.driver.current_url}")

    def rows(self) -> list[str]:
        """Return the rows of the table of operations; none if there is no table."""
        script = "return [...document.querySelector('.ee-table')?.tBodies[0].rows ?? []].map(row => row.innerText)"
        return [str(row) for row in self.driver.execute_script(script)]

    def click(self, xpath: str) -> None:
        """Click an element, once it exists; retry if the table was redrawn meanwhile."""
        from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException
        from selenium.webdriver.common.by import By

        def clicked() -> bool:
            try:
                self.driver.find_element(By.XPATH, xpath).click()
            except (NoSuchElementException, StaleElementReferenceException):
                return False
            return True

        wait_until(clicked, what=f"a click on {xpath}")

    def write(self, xpath: str, text: str) -> None:
        """Replace the text of a field."""
        from selenium.webdriver.common.by import By
        from selenium.webdriver.common.keys import Keys

        self.driver.find_element(By.XPATH, xpath).send_keys(Keys.CONTROL, "a")
        self.driver.find_element(By.XPATH, xpath).send_keys(text)

    @property
    def address(self) -> str:
        """The page's URL, from its path on."""
        return str(self.driver.execute_script("return location.pathname + location.search"))

    def value(self, xpath: str, name: str = "value") -> str:
        """Return the value of a field, or another property of it."""
        from selenium.webdriver.common.by import By

        return str(self.driver.find_element(By.XPATH, xpath).get_property(name))

    def is_enabled(self, xpath: str) -> bool:
        """Whether a button can be pressed."""
        from selenium.webdriver.common.by import By

        return bool(self.driver.find_element(By.XPATH, xpath).is_enabled())

    def complaints(self) -> list[str]:
        """Return axe's serious findings on our part of the page."""
        from axe_core_python.base import AXE_SCRIPT

        self.driver.execute_script(AXE_SCRIPT)
        found = self.driver.execute_async_script(
            "const done = arguments[0]; axe.run('.ee-page').then(result => done(result.violations))"
        )
        return [f"{one['id']}: {one['help']}" for one in found if one["impact"] in SERIOUS]

    def sticks_out(self) -> list[str]:
        """Return what scrolls sideways, of our part of the page or around it, and the elements too wide for it."""
        script = """
            const found = [];
            for (let one = document.querySelector('.ee-page'); one; one = one.parentElement) {
              if (one.scrollWidth <= one.clientWidth + 1) continue;
              const edge = one.getBoundingClientRect().left + one.clientWidth + 1;
              const wide = [...one.querySelectorAll('*')].filter(each => each.getBoundingClientRect().right > edge);
              found.push(one.outerHTML.slice(0, 80), ...wide.slice(0, 9).map(each => each.outerHTML.slice(0, 300)));
            }
            return found;
        """
        return [str(one) for one in self.driver.execute_script(script)]

    def picture(self, path: Path) -> None:
        """Save a screenshot, once animations have ended."""
        time.sleep(1)
        self.driver.save_screenshot(str(path))


@contextmanager
def browser(airflow: StandaloneAirflow) -> Iterator[Browser]:
    """Open a window, and close it."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    driver = webdriver.Chrome(service=Service(DRIVER, popen_kw={"start_new_session": True}), options=options)
    try:
        yield Browser(driver, airflow)
    finally:
        driver.quit()
