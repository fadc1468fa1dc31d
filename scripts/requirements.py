"""Print what the package and its development need, as pyproject.toml says."""

import tomllib
from pathlib import Path

project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))
for requirement in (*project["project"]["dependencies"], *project["dependency-groups"]["dev"]):
    print(requirement)
