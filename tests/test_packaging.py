"""One source: pyproject.toml owns dependencies, the locks agree, MLproject calls the parser."""

import ast
import re
import shlex
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml
from mlflow.exceptions import ExecutionException
from mlflow.projects.utils import load_project
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from pipeline.options import build_parser

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCKS = [
    "requirements.lock",
    "requirements-dev.lock",
    "requirements-peers.lock",
    "requirements-ray.lock",
    "requirements-ui.lock",
    "requirements-server.lock",
]
MLPROJECT = load_project(str(ROOT))

NASTY = [
    "a b",
    "it's",
    'say "no"',
    "$HOME",
    "`id`",
    "x; exit 1",
    "{study}",
    "a\nb",
    "*",
    "tab\tül=1",
    "csv:C:\\t.csv",
]


def lock_lines(lock: str) -> list[str]:
    lines = (line.strip() for line in (ROOT / lock).read_text().splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def pins(lock: str) -> dict[str, str]:
    requirements = [Requirement(line) for line in lock_lines(lock)]
    return {
        canonicalize_name(requirement.name): str(requirement.specifier).removeprefix("==")
        for requirement in requirements
    }


def dependencies(*extras: str) -> list[Requirement]:
    named = PROJECT["optional-dependencies"]
    texts = PROJECT["dependencies"] + [text for extra in extras for text in named[extra]]
    return [Requirement(text) for text in texts]


def arguments(entry_point: str, **parameters: str) -> list[str]:
    """Returns what the program finds in sys.argv when `mlflow run` was given these `-P`."""
    command = MLPROJECT.get_entry_point(entry_point).compute_command(parameters, None)
    words = shlex.split(command)
    assert words[:3] == ["python", "-m", "pipeline"]
    return words[3:]


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_pins_every_package_to_one_exact_version(lock: str) -> None:
    lines = lock_lines(lock)
    for line in lines:
        requirement = Requirement(line)
        assert requirement.url is None, line
        assert re.fullmatch(r"==[0-9][^+*,]*", str(requirement.specifier)), line
    assert len(pins(lock)) == len(lines)


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_knows_no_machine_and_no_cuda(lock: str) -> None:
    text = (ROOT / lock).read_text()
    assert not re.search(r"://|--|(?<![a-z])/[a-z]", text)
    assert not [name for name in pins(lock) if re.match(r"nvidia|cuda|triton|pytorch-triton", name)]
    assert pins(lock)["torch"] == "2.13.0"


@pytest.mark.parametrize(
    ("lock", "extras"),
    [
        ("requirements.lock", ()),
        ("requirements-dev.lock", ("test", "dev")),
        ("requirements-peers.lock", ("peers",)),
        ("requirements-ray.lock", ("ray",)),
        ("requirements-ui.lock", ("ui",)),
        ("requirements-server.lock", ("server",)),
    ],
)
def test_a_lock_satisfies_pyproject(lock: str, extras: tuple[str, ...]) -> None:
    locked = pins(lock)
    for requirement in dependencies(*extras):
        version = locked.get(canonicalize_name(requirement.name))
        assert version is not None, f"{requirement} is not in {lock}: make lock"
        assert requirement.specifier.contains(version), f"{requirement}, {lock} has {version}"


def test_ray_is_known_to_one_file() -> None:
    knowing = [
        path.name
        for path in (ROOT / "pipeline").rglob("*.py")
        if re.search(r"^\s*(import|from) ray\b", path.read_text(), flags=re.MULTILINE)
    ]
    assert knowing == ["distributed.py"]


def test_the_runtime_lock_holds_everything_the_package_imports() -> None:
    trees = [ast.parse(path.read_text()) for path in (ROOT / "pipeline").rglob("*.py")]
    imports = [node for tree in trees for node in ast.walk(tree)]
    modules = {
        alias.name for node in imports if isinstance(node, ast.Import) for alias in node.names
    }
    modules |= {
        node.module
        for node in imports
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0
    }
    foreign = {module.split(".", 1)[0] for module in modules} - {
        "pipeline",
        "ray",  # an extra
        *sys.stdlib_module_names,
    }
    distributions = packages_distributions()
    locked = pins("requirements.lock")
    missing = {
        module
        for module in foreign
        if not any(
            canonicalize_name(name) in locked for name in distributions.get(module, [module])
        )
    }
    assert not missing, f"not in requirements.lock: {sorted(missing)}"


def test_the_development_lock_extends_the_runtime_lock() -> None:
    assert pins("requirements.lock").items() <= pins("requirements-dev.lock").items()


@pytest.mark.parametrize("lock", ["requirements-ui.lock", "requirements-server.lock"])
def test_a_lock_for_more_tests_installs_over_the_development_lock(lock: str) -> None:
    develop = pins("requirements-dev.lock")
    shared = {name: pin for name, pin in pins(lock).items() if name in develop}
    assert shared.items() <= develop.items()


def test_torch_in_the_lock_is_what_the_resolver_was_told() -> None:
    settings = tomllib.loads((ROOT / "lock.toml").read_text())
    stated = {entry["name"]: entry["version"] for entry in settings["dependency-metadata"]}
    assert stated == {"torch": pins("requirements.lock")["torch"]}


def test_an_install_with_uv_asks_torch_itself_what_it_needs() -> None:
    # uv reads [tool.uv] and uv.toml at an install too: torch would come without its CUDA libraries.
    assert "uv" not in tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    assert not (ROOT / "uv.toml").exists()


def test_conda_takes_everything_from_the_lock() -> None:
    conda = yaml.safe_load((ROOT / "conda.yaml").read_text())
    python, pip, from_pip = conda["dependencies"]
    assert pip == "pip"
    assert from_pip == {"pip": ["-r requirements.lock"]}
    version = re.fullmatch(r"python=([0-9.]+)", python)
    assert version is not None
    assert SpecifierSet(PROJECT["requires-python"]).contains(version[1])


def test_mlproject_holds_entry_points_only() -> None:
    project = yaml.safe_load((ROOT / "MLproject").read_text())
    assert project.keys() == {"name", "conda_env", "entry_points"}
    assert project["name"] == PROJECT["name"]
    assert project["entry_points"].keys() == {"main", "data", "report", "reproduce", "compare"}


def test_main_runs_the_default_study_without_any_parameter() -> None:
    parsed = build_parser().parse_args(arguments("main"))
    assert parsed.study == "studies/breast_cancer.toml"
    assert (ROOT / parsed.study).is_file()


def test_main_defaults_mean_what_the_bare_command_means() -> None:
    parser = build_parser()
    through_mlflow = vars(parser.parse_args(arguments("main", study="x.toml")))
    bare = vars(parser.parse_args(["run", "x.toml"]))
    assert {k: v or None for k, v in through_mlflow.items()} == {
        k: v or None for k, v in bare.items()
    }


@pytest.mark.parametrize("value", NASTY)
@pytest.mark.parametrize("parameter", ["study", "data", "target"])
def test_main_passes_any_text_on_as_it_is(parameter: str, value: str) -> None:
    parsed = build_parser().parse_args(arguments("main", **{parameter: value}))
    assert getattr(parsed, parameter) == value


@pytest.mark.parametrize("parameter", ["n_trials", "population", "seed", "max_epochs"])
def test_main_passes_numbers_on(parameter: str) -> None:
    parsed = build_parser().parse_args(arguments("main", **{parameter: "7"}))
    assert int(getattr(parsed, parameter)) == 7


@pytest.mark.parametrize(
    ("value", "expected"), [("", False), ("false", False), ("true", True), ("1", True)]
)
@pytest.mark.parametrize("name", ["resume", "accept_changes", "promote"])
def test_main_resumes_accepts_and_promotes_when_told(name: str, value: str, expected: bool) -> None:
    chosen = vars(build_parser().parse_args(arguments("main", **{name: value})))
    assert chosen[name] is expected
    assert sum(chosen[each] for each in ("resume", "accept_changes", "promote")) == expected


@pytest.mark.parametrize("parameter", ["unknown", "pop", "max", "n_trial", "stud", "it's; exit"])
def test_an_unknown_parameter_is_refused(
    parameter: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        build_parser().parse_args(arguments("main", **{parameter: "3"}))
    assert stopped.value.code == 2
    assert parameter.split(maxsplit=1)[0] in capsys.readouterr().err


@pytest.mark.parametrize("entry_point", ["report", "reproduce"])
@pytest.mark.parametrize("run_id", ["0123456789abcdef0123456789abcdef", *NASTY])
def test_report_and_reproduce_pass_the_run_id_on(entry_point: str, run_id: str) -> None:
    assert build_parser().parse_args(arguments(entry_point, run_id=run_id)).run_id == run_id


@pytest.mark.parametrize("entry_point", ["report", "reproduce"])
def test_report_and_reproduce_need_a_run_id(entry_point: str) -> None:
    with pytest.raises(ExecutionException, match="run_id"):
        arguments(entry_point)


def test_compare_passes_run_ids_and_figure_on() -> None:
    parsed = build_parser().parse_args(arguments("compare", run_ids="0a,1b 2c", figure="x y.png"))
    assert parsed.run_ids == [["0a", "1b", "2c"]]
    assert parsed.figure == "x y.png"
    assert build_parser().parse_args(arguments("compare", run_ids="0a")).figure is None
    with pytest.raises(ExecutionException, match="run_ids"):
        arguments("compare")


@pytest.mark.parametrize("value", NASTY)
def test_data_passes_source_and_target_on(value: str) -> None:
    parsed = build_parser().parse_args(arguments("data", source=value, target=value))
    assert (parsed.source, parsed.target) == (value, value)
    assert build_parser().parse_args(arguments("data", source=value)).target is None


@pytest.mark.parametrize(
    "target",
    ["help", "study", "test", "test-ui", "check", "ui", "stack", "screenshots", "lock", "clean"],
)
def test_the_makefile_has_the_target(target: str) -> None:
    makefile = (ROOT / "Makefile").read_text()
    assert re.search(rf"^{target}:.*## \w", makefile, flags=re.MULTILINE)
    phony = re.search(r"^\.PHONY: (.*)$", makefile, flags=re.MULTILINE)
    assert phony is not None
    assert target in phony[1].split()


def test_the_makefile_passes_on_every_parameter_of_main() -> None:
    makefile = (ROOT / "Makefile").read_text()
    passed_on = dict(re.findall(r'-P (\w+)="\$\$(\w+)"', makefile))
    assert passed_on == {
        name: name.upper() for name in MLPROJECT.get_entry_point("main").parameters
    }


def test_the_readme_opens_with_the_two_commands() -> None:
    readme = (ROOT / "README.md").read_text()
    indented = re.findall(r"^(?: {4}|\$ )?(make \w+)", readme, flags=re.MULTILINE)
    assert indented[:2] == ["make study", "make test"]


def test_the_license_is_the_one_named() -> None:
    assert PROJECT["license"] == "Apache-2.0"
    assert "Apache License" in (ROOT / "LICENSE").read_text()[:200]
