"""YAML from outside -> plain data, in time and memory that the size of the text bounds. Torch-free."""

from typing import Any

import yaml

MERGE = "tag:yaml.org,2002:merge"


class _Loader(yaml.SafeLoader):
    """Reads what safe_load reads but merge keys: nested ones multiply, a kilobyte to gigabytes."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        for key, _ in node.value:
            if key.tag == MERGE:
                raise yaml.constructor.ConstructorError(
                    None, None, "merge keys (<<) aren't read", key.start_mark
                )


def read_yaml(text: str) -> Any:
    """Return the data; raises ValueError, with the line where it is known, for what can't be read."""
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f" at line {mark.line + 1}" if mark else ""
        raise ValueError(f"{place}: {getattr(error, 'problem', None) or 'it is not text'}") from error
    except RecursionError as error:
        raise ValueError(": it is nested too deeply") from error
    except ValueError as error:  # a date or a number that can't be
        raise ValueError(f": {error}") from error
