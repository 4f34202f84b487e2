"""YAML from outside -> plain data, in time and memory that the size of the text limits. Torch-free."""

from typing import Any

import yaml

MERGE = "tag:yaml.org,2002:merge"


class _Loader(yaml.SafeLoader):
    """Reads what safe_load does, except merge keys: nested ones can turn a kilobyte into gigabytes."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        for key, _ in node.value:
            if key.tag == MERGE:
                raise yaml.constructor.ConstructorError(
                    None, None, "merge keys (<<) aren't read", key.start_mark
                )


def read_yaml(text: str) -> Any:
    """Return the data; raises ValueError, with the line if it is known, for invalid YAML."""
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        at_line = f" at line {mark.line + 1}" if mark else ""
        raise ValueError(f"{at_line}: {getattr(error, 'problem', None) or 'it is not text'}") from error
    except RecursionError as error:
        raise ValueError(": it is nested too deeply") from error
    except ValueError as error:  # an impossible date or number
        raise ValueError(f": {error}") from error
