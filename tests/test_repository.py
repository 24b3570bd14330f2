"""What the repository promises outside its packages: the cluster file, the pinned versions, the README's commands."""

import json
import re
import tomllib
from importlib import resources
from pathlib import Path

import pytest
import yaml

from strategies import Strategy, registry
from strategies.examination import examine, find, importable_from

ROOT = Path(__file__).resolve().parent.parent


def test_the_cluster_file_passes_rays_own_schema():
    import jsonschema

    schema = json.loads((resources.files("ray") / "autoscaler" / "ray-schema.json").read_text())
    cluster = yaml.safe_load((ROOT / "cluster.yaml").read_text())
    jsonschema.validate(cluster, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(cluster | {"worker_ndoes": {}}, schema)


def test_the_cluster_exposes_no_dashboard_and_asks_for_a_token():
    cluster = yaml.safe_load((ROOT / "cluster.yaml").read_text())
    starts = [
        line
        for line in cluster["head_start_ray_commands"] + cluster["worker_start_ray_commands"]
        if "ray start" in line
    ]
    assert len(starts) == 2
    assert all("RAY_AUTH_MODE=token" in line for line in starts)
    assert "--include-dashboard=false" in starts[0]


def names(requirements):
    return {re.split(r"[\[<>=!~; ]", line)[0].lower().replace("_", "-") for line in requirements}


def test_every_dependency_is_pinned_to_one_version():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==\S+", line) for line in lines)
    wanted = names(project["dependencies"] + project["optional-dependencies"]["dev"])
    assert wanted <= names(lines)


def test_ci_runs_the_test_command_of_the_readme():
    readme, script = (ROOT / "README.md").read_text(), (ROOT / ".ci" / "run").read_text()
    install, test = re.search(r'^(pip install -c constraints\.txt -e "\.\[dev\]") && (pytest)$', readme, re.M).groups()
    assert install.removeprefix("pip install ") in script
    assert f"\n{test}\n" in script


def test_every_file_the_readme_links_to_exists():
    for target in re.findall(r"\]\((?!https?://)([^)#]+)", (ROOT / "README.md").read_text()):
        assert (ROOT / target).exists(), target


@pytest.mark.parametrize(
    ("page", "name"),
    [
        ("README.md", "InverseWeighting"),
        ("CONTRIBUTING.md", "Mine"),
        ("docs/plugins.md", "InverseMeanWeighting"),
    ],
)
def test_the_strategies_shown_in_the_documentation_keep_the_contract(tmp_path, page, name):
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)
    (shown,) = [block for block in blocks if f"class {name}(" in block]
    module = f"shown_{name.lower()}"
    (tmp_path / f"{module}.py").write_text(f"from strategies import Strategy\n{shown}")
    with importable_from(tmp_path):
        verdicts = examine(find(f"{module}:{name}"))
    assert [verdict for verdict in verdicts if verdict.outcome == "failed"] == []


def test_every_class_variable_of_a_strategy_is_explained():
    page = (ROOT / "docs" / "plugins.md").read_text()
    declared = [name for name, hint in Strategy.__annotations__.items() if "ClassVar" in str(hint)]
    assert len(declared) > 10
    assert [name for name in declared if f"`{name}`" not in page] == []


def test_the_readme_names_every_strategy_and_counts_them():
    text = (ROOT / "README.md").read_text()
    own = [name for name in registry.names() if registry.describe(name).distribution == "weighting-study"]
    assert [name for name in own if f"`{name}`" not in text] == []
    assert f"lists the {len(own)} strategies" in text
