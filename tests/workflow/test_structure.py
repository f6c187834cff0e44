"""The rooms of the house: what lies where, and who may know whom."""

import ast
import re
from pathlib import Path

import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGE = REPOSITORY / "pkg" / "fedpedbrain"
RULE_FILES = sorted((REPOSITORY / "rules").glob("*.smk"))
SCRIPTS = sorted((REPOSITORY / "workflow_scripts").glob("*.py"))
# A package may import those before it, never those after it.
ORDER = ["data", "models", "training", "federated", "evaluation", "reporting"]
# Inference stands beside the chain: it takes a model and a scan.
INFERENCE_MAY_IMPORT = {"data", "models", "inference"}


def rules_with_scripts():
    for path in RULE_FILES:
        for block in re.split(r"\n(?=rule )", path.read_text()):
            name = re.match(r"\s*rule (\w+):", block)
            if name:
                yield name.group(1), block


def imported_areas(path):
    for node in ast.walk(ast.parse(path.read_text())):
        modules = [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
        modules += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        for module in modules:
            parts = module.split(".")
            if parts[0] == "fedpedbrain" and len(parts) > 1:
                yield parts[1]


def test_every_rule_runs_the_script_of_its_name():
    names = {name for name, _ in rules_with_scripts()}
    assert names == {path.stem for path in SCRIPTS}
    for name, block in rules_with_scripts():
        assert f'"../workflow_scripts/{name}.py"' in block


@pytest.mark.parametrize(("name", "block"), list(rules_with_scripts()))
def test_every_rule_is_complete(name, block):
    assert '"""' in block, f"{name} has no docstring"
    for directive in ("output", "log", "benchmark", "conda", "threads", "resources", "params", "message"):
        assert f"    {directive}:" in block, f"{name} has no {directive}"
    assert f'code=code("{name}")' in block
    assert not re.search(r"^\s+run:", block, re.MULTILINE)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_scripts_only_adapt(path):
    tree = ast.parse(path.read_text())
    forbidden = ast.FunctionDef | ast.ClassDef | ast.For | ast.While | ast.BinOp | ast.Lambda
    assert not [node for node in ast.walk(tree) if isinstance(node, forbidden)]
    assert "snakemake.config" not in path.read_text()
    assert len(path.read_text().splitlines()) <= 30


def test_sizes_stay_readable():
    limits = [(path, 150) for path in RULE_FILES] + [(REPOSITORY / "Snakefile", 60)]
    limits += [(path, 400) for path in PACKAGE.rglob("*.py")]
    too_long = [path.name for path, limit in limits if len(path.read_text().splitlines()) > limit]
    assert not too_long


def test_the_package_does_not_know_the_workflow_engine():
    assert not [path.name for path in PACKAGE.rglob("*.py") if "snakemake" in path.read_text().lower()]


def test_the_package_names_no_output_path():
    assert not [path.name for path in PACKAGE.rglob("*.py") if re.search(r"[\"']results/", path.read_text())]


def test_imports_go_one_way():
    for path in PACKAGE.rglob("*.py"):
        area = path.relative_to(PACKAGE).parts[0]
        imported = set(imported_areas(path)) & {*ORDER, "inference"}
        if area == "inference":
            assert imported <= INFERENCE_MAY_IMPORT, path
        elif area in ORDER:
            assert imported <= set(ORDER[: ORDER.index(area) + 1]), path
        else:
            assert not imported, f"{path} is the ground floor and imports {imported}"


def test_the_environment_agrees_with_the_lock():
    lock = (REPOSITORY / "requirements.lock").read_text().lower().splitlines()
    pinned = dict(line.split("==") for line in lock if "==" in line)
    for path in (REPOSITORY / "envs").glob("*.yaml"):
        pip = next(item["pip"] for item in yaml.safe_load(path.read_text())["dependencies"] if isinstance(item, dict))
        for requirement in pip:
            name, version = requirement.lower().split("==")
            assert pinned[name] == version, f"{path.name}: {requirement}"


def test_every_config_key_is_read():
    code = "\n".join(path.read_text() for path in [*PACKAGE.rglob("*.py"), *RULE_FILES])

    def leaves(block):
        for key, value in block.items():
            yield key
            if isinstance(value, dict) and key not in ("cases", "class_map", "arm_colours"):
                yield from leaves(value)

    config = yaml.safe_load((REPOSITORY / "config.yaml").read_text())
    unread = [key for key in leaves(config) if not re.search(rf"\b{key}\b", code)]
    assert not unread
