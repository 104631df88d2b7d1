"""``make dist``: tests the wheel, installed outside the tree, on the versions of Airflow that are given."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from email import message_from_string
from pathlib import Path

from measure import NEWEST, PYTHON, ROOT, UV
from readme_renderer import markdown

#: Files that the tests read besides the package, which comes from the wheel.
TESTS = ("tests", "evidence", "example_dags", "docs", "benchmarks", "README.md", "CHANGELOG.md", "pyproject.toml")


def page_on_an_index(wheel: Path) -> str:
    """Return README as a package index renders it: `twine check` renders no Markdown."""
    with zipfile.ZipFile(wheel) as files:
        [metadata] = [name for name in files.namelist() if name.endswith(".dist-info/METADATA")]
        page = markdown.render(message_from_string(files.read(metadata).decode()).get_payload())
    if page is None:
        raise SystemExit("README cannot be rendered.")
    return page


def bill_of_materials(wheel: Path, python: str) -> None:
    """Write a list of the packages that were installed with a wheel, in CycloneDX format."""
    page = wheel.with_name(f"{wheel.name.partition('-py3')[0]}.cdx.json")
    program = str(Path(sys.executable).parent / "cyclonedx-py")
    subprocess.run([program, "environment", python, "--output-file", str(page)], check=True)
    print(f"The bill of materials is in {page}", flush=True)


def check(wheel: Path, airflow: str, folder: Path) -> bool:
    """Install a wheel into an empty environment, and run the integration tests; return whether all have passed."""
    python = str(folder / "venv" / "bin" / "python")
    subprocess.run([UV, "venv", "--quiet", "--python", PYTHON, str(folder / "venv")], check=True)
    constraints = f"constraints/airflow-{airflow}.txt"
    install = [UV, "pip", "install", "--quiet", "--python", python, "--constraint", constraints]
    what = (f"{wheel}[earthengine,testing,demo]", f"apache-airflow=={airflow}", "--group", "test")
    subprocess.run([*install, *what], cwd=ROOT, check=True)
    if airflow == NEWEST:
        bill_of_materials(wheel, python)
    tree = folder / "tree"
    tree.mkdir()
    for name in TESTS:
        source = ROOT / name
        copy = shutil.copytree if source.is_dir() else shutil.copy
        copy(source, tree / name)  # type: ignore[operator]
    asked = "import airflow_ee_provider as it; print(it.__file__, it.__version__)"
    found = subprocess.run([python, "-c", asked], cwd=tree, check=True, capture_output=True, text=True).stdout.strip()
    print(f"Airflow {airflow}: {found}", flush=True)
    if str(folder / "venv") not in found:
        raise SystemExit("That is not the wheel's.")
    tests = (python, "-m", "pytest", "--numprocesses", "4", "--quiet", "tests/integration")
    return subprocess.run(tests, cwd=tree, check=False).returncode == 0


def main() -> int:
    [wheel] = Path(sys.argv[1]).resolve().glob("*.whl")
    page = page_on_an_index(wheel)
    wheel.with_name("README.html").write_text(f'<meta charset="utf-8">{page}', encoding="utf-8")
    if found := re.findall(r'(?:href|src)="((?!https:|#)[^"]*)"', page):
        raise SystemExit(f"On a package index, these links of README lead nowhere: {', '.join(found)}")
    good = True
    for airflow in sys.argv[2:]:
        with tempfile.TemporaryDirectory(prefix="airflow-ee-wheel-") as folder:
            good &= check(wheel, airflow, Path(folder))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
