"""The rooms of the house: what lies where, and who may know whom."""

import ast
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from fedpedbrain.reporting.figure_facts import FIGURES
from organ_words import organ_words

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGE = REPOSITORY / "pkg" / "fedpedbrain"
RULE_FILES = sorted((REPOSITORY / "rules").glob("*.smk"))
SCRIPTS = sorted((REPOSITORY / "workflow_scripts").glob("*.py"))
# A room may import those before it, never those after it.
ORDER = ["base", "study", "planning", "jobs", "data", "models", "training", "federated", "evaluation", "reporting"]
# Commands may import everything.
ORDER += ["exports", "inference", "commands"]
# Inference stands beside the chain: it takes a model and a scan.
INFERENCE_MAY_IMPORT = {"base", "jobs", "data", "models", "inference"}


# The rules that are made from a table of choices, one per row and named after it, run one script.
MADE_FROM_A_TABLE = "plot_figure"
# Rules whose code depends on where held-out cases are compared or shown.
IN_A_GEOMETRY = dict.fromkeys(["predict_cases", "score_predictions"], ", *STUDY.geometry_choices")
IN_A_GEOMETRY |= dict.fromkeys(
    ["restore_predictions", "choose_cases", "explain_cases", "plot_explanations", "render_videos"],
    ", STUDY.geometry_choices[0]",
)


# Names for what users ask of the requests, beside the rules that make it; the study's own stand in the Snakefile.
TARGETS = {"predict", "import_model"}


def rules_with_scripts():
    for path in RULE_FILES:
        for block in re.split(r"\n(?= *rule[ :])", path.read_text()):
            rule = re.match(r"\s*rule(?: (\w+))?:", block)
            if rule and rule.group(1) not in TARGETS:
                yield rule.group(1) or MADE_FROM_A_TABLE, block


def imported_areas(path):
    for node in ast.walk(ast.parse(path.read_text())):
        modules = [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
        modules += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        for module in modules:
            parts = module.split(".")
            if parts[0] == "fedpedbrain" and len(parts) > 1:
                yield parts[1]


def test_every_rule_runs_the_script_of_its_name():
    names = [name for name, _ in rules_with_scripts()]
    assert sorted(names) == sorted(path.stem for path in SCRIPTS)
    for name, block in rules_with_scripts():
        assert f'"../workflow_scripts/{name}.py"' in block


def test_every_figure_has_its_row_in_the_rules_and_a_caption():
    rows = re.findall(r'^    "(\w+)": \($', (REPOSITORY / "rules" / "figures.smk").read_text(), re.MULTILINE)
    assert rows == list(FIGURES)
    assert set(rows) <= {path.stem for path in (REPOSITORY / "rules" / "captions").glob("*.rst")}


# Runs whenever it is named, on the files as they are. An input would first be made anew where it was changed; with an
# output the rule would be up to date after its first run.
ALWAYS_RUN = "verify_lineage"
# Works on files that are gone afterwards: an edit of its code must not have them made anew.
ONCE_ONLY = "inspect_updates"


@pytest.mark.parametrize(("name", "block"), list(rules_with_scripts()))
def test_every_rule_is_complete(name, block):
    assert '"""' in block, f"{name} has no docstring"
    for directive in ("log", "conda", "threads", "resources", "params", "message"):
        assert f"    {directive}:" in block, f"{name} has no {directive}"
    assert ("    output:" in block) == (name != ALWAYS_RUN), f"{name}: output"
    # Snakemake's measurements see the process that waits for a forked job: jobs measure themselves.
    assert "    benchmark:" not in block
    assert name != ALWAYS_RUN or "    input:" not in block
    own = {MADE_FROM_A_TABLE: ', ("FIGURES", figure)'}.get(name, IN_A_GEOMETRY.get(name, ""))
    assert (f'code=code("{name}"{own})' in block) == (name != ONCE_ONLY)
    assert not re.search(r"^\s+run:", block, re.MULTILINE)


VARIANT = re.compile(r"use rule (\w+) as (\w+) with:\n    output:\n((?: {8}.+\n)+)    wildcard_constraints:\n.+\n")


def test_a_variant_of_a_rule_differs_in_what_of_its_outputs_is_temporary_alone():
    text = (REPOSITORY / "rules" / "training.smk").read_text()
    variants = VARIANT.findall(text)
    assert len(variants) == text.count("use rule") == 2
    for name, variant, outputs in variants:
        block = dict(rules_with_scripts())[name]
        assert re.sub(r'temp\((".+?")\)', r"\1", outputs) == re.sub(
            r'temp\((".+?")\)', r"\1", re.search(r"    output:\n((?: {8}.+\n)+)", block)[1]
        ), variant


def test_a_site_computes_on_the_configured_threads_however_few_cores_the_run_has():
    # A job's own threads are capped at the run's cores, and another number of threads gives other bytes.
    assert 'num_threads=STUDY.config["training"]["threads"]' in dict(rules_with_scripts())["train_site"]
    script = (REPOSITORY / "workflow_scripts" / "train_site.py").read_text()
    assert "snakemake.resources.num_threads" in script
    assert "snakemake.threads" not in script


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_scripts_only_adapt(path):
    tree = ast.parse(path.read_text())
    forbidden = ast.FunctionDef | ast.ClassDef | ast.For | ast.While | ast.BinOp | ast.Lambda
    forbidden |= ast.ListComp | ast.SetComp | ast.DictComp
    assert not [node for node in ast.walk(tree) if isinstance(node, forbidden)]
    assert "snakemake.config" not in path.read_text()
    assert len(path.read_text().splitlines()) <= 30


def test_sizes_stay_readable():
    limits = [(path, 300) for path in RULE_FILES] + [(REPOSITORY / "Snakefile", 60)]
    limits += [(path, 400) for path in PACKAGE.rglob("*.py")]
    too_long = [path.name for path, limit in limits if len(path.read_text().splitlines()) > limit]
    assert not too_long


def test_the_package_does_not_know_the_workflow_engine():
    assert not [path.name for path in PACKAGE.rglob("*.py") if "snakemake" in path.read_text().lower()]


def test_the_package_names_no_output_path():
    assert not [path.name for path in PACKAGE.rglob("*.py") if "results/" in path.read_text()]


def test_imports_go_one_way():
    for path in PACKAGE.rglob("*.py"):
        area = path.relative_to(PACKAGE).parts[0]
        imported = set(imported_areas(path)) & set(ORDER)
        if area == "inference":
            assert imported <= INFERENCE_MAY_IMPORT, path
        elif area in ORDER:
            assert imported <= set(ORDER[: ORDER.index(area) + 1]), path
        else:
            assert path in (PACKAGE / "__init__.py", PACKAGE / "__main__.py"), f"{path} lies in no room"


def public_names(path):
    """Names that a module defines for others."""
    for node in ast.parse(path.read_text()).body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", node)]
        targets = [part for target in targets for part in getattr(target, "elts", [target])]
        names = [getattr(target, "id", getattr(target, "name", "_")) for target in targets]
        yield from (name for name in names if not name.startswith("_") and name != "logger")


def test_no_two_public_names_are_alike_since_fingerprints_do_not_see_where_a_name_comes_from():
    places = {}
    for path in PACKAGE.rglob("*.py"):
        for name in set(public_names(path)):
            places.setdefault(name, []).append(path.relative_to(PACKAGE).as_posix())
    assert {"load_study", "Strategy", "NUM_BINS", "ALL_SITES"} <= places.keys()
    assert not {name: found for name, found in places.items() if len(found) > 1}


def test_continuous_integration_runs_every_check_once():
    calls = re.findall(r"^make (\S+)", (REPOSITORY / ".ci" / "run").read_text(), re.MULTILINE)
    assert calls == ["test", "test-long"]
    command = ["make", "--dry-run", "test-all"]
    shown = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    assert re.findall(r" -m pytest .*-m (\"not long\"|long)", shown) == ['"not long"', "long"]
    assert [shown.count(check) for check in ("ruff check", "ruff format", "snakefmt", "--lint")] == [1, 1, 1, 1]


def test_marks_of_tests_are_registered_and_every_long_test_is_slow_too():
    options = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]
    assert [marker.partition(":")[0] for marker in options["markers"]] == ["slow", "long"]
    # A misspelt mark would leave a test in the wrong half.
    assert "--strict-markers" in options["addopts"]
    texts = {path.name: path.read_text() for path in (REPOSITORY / "tests" / "e2e").glob("test_*.py")}
    long = {name for name, text in texts.items() if "mark.long" in text}
    assert "test_resume.py" in long
    assert long <= {name for name, text in texts.items() if "mark.slow" in text}
    # Its fixture would be made twice.
    assert not [name for name in long if "finished_study" in texts[name] or "study_copy" in texts[name]]


def test_the_environment_agrees_with_the_lock():
    lock = (REPOSITORY / "requirements.lock").read_text().lower().splitlines()
    pinned = dict(line.split("==") for line in lock if "==" in line)
    for path in (REPOSITORY / "envs").glob("*.yaml"):
        pip = next(item["pip"] for item in yaml.safe_load(path.read_text())["dependencies"] if isinstance(item, dict))
        for requirement in pip:
            name, version = requirement.lower().split("==")
            assert pinned[name] == version, f"{path.name}: {requirement}"


# Blocks of the config that are handed on as named arguments, whose keys the package never quotes.
BLOCKS_OF_ARGUMENTS = {
    "preprocessing.intensity.percentile",
    "preprocessing.intensity.z_score",
    "network.unet",
    "network.i3d_unet",
    "reporting.video",
}
# Blocks whose keys are names of the study.
BLOCKS_OF_NAMES = {
    "phantom.cases",
    "bids.class_map",
    "listed.class_map",
    "class_folders.class_map",
    "flpedbrain.sha256",
    "flpedbrain.site_parts",
    "training.loss.class_weights",
    "reporting.arm_colours",
}


def config_keys(block, place=""):
    """Every key of the config with the block that it stands in."""
    for key, value in block.items():
        yield place, key
        inner = f"{place}.{key}" if place else key
        if isinstance(value, dict) and inner not in BLOCKS_OF_NAMES:
            yield from config_keys(value, inner)


def unread_keys(config, sources, rules=""):
    """Keys that no source and no rule quotes, or takes as an argument where their block is handed on so."""
    nodes = [node for source in sources for node in ast.walk(ast.parse(source))]
    quoted = {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    quoted |= set(re.findall(r"\[\"(\w+)\"\]", rules))
    arguments = {node.arg for node in nodes if isinstance(node, ast.arg)}
    return [
        f"{place}.{key}"
        for place, key in config_keys(config)
        if key not in (quoted | arguments if place in BLOCKS_OF_ARGUMENTS else quoted)
    ]


def test_every_config_key_is_read():
    config = yaml.safe_load((REPOSITORY / "config.yaml").read_text())
    sources, rules = ([path.read_text() for path in paths] for paths in (PACKAGE.rglob("*.py"), RULE_FILES))
    assert not unread_keys(config, sources, "".join(rules))


def test_a_config_key_that_the_package_only_speaks_of_is_unread():
    config = {"training": {"batch_size": 2, "epochs": 1, "threads": 1}, "network": {"unet": {"dropout": 0.1}}}
    source = 'def f(dropout, batch_size):\n    """The epochs."""\n    return s["training"], s["network"], s["unet"]'
    assert unread_keys(config, [source], 'threads: s["threads"]') == ["training.batch_size", "training.epochs"]


def test_the_package_and_its_captions_name_no_organ():
    paths = [path for path in PACKAGE.rglob("*") if path.suffix in {".py", ".j2", ".js", ".css", ".md"}]
    found = {path.relative_to(PACKAGE).as_posix(): organ_words(path.read_text(encoding="utf-8")) for path in paths}
    assert len(found) > 200
    captions = {path.name: organ_words(path.read_text()) for path in (REPOSITORY / "rules" / "captions").glob("*.rst")}
    assert {name: words for name, words in captions.items() if words} == {"workflow.rst": ["tumours"]}
    # Heads of a network are no organ, tumours there would be one.
    words = {
        name: [word for word in words if not (name.startswith(("models/", "training/")) and word.startswith("head"))]
        for name, words in found.items()
        if not name.startswith(("data/sources/phantom/", "data/sources/flpedbrain/"))
    }
    assert {name: words for name, words in words.items() if words} == {"reporting/words/source_notes.py": ["tumours"]}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("def find_head(tumor_mask): # of the brain's", ["head", "tumor", "brain"]),
        ("import fedpedbrain; header = ahead.multihead; <head>", []),
        ("from feet to head, segmentation_head", []),
    ],
)
def test_organ_words(text, words):
    assert organ_words(text) == words
