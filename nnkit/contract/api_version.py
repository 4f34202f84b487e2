"""The version of the plugin API, and whether a plugin that states one can be used. Torch-free."""

PLUGIN_API = "1.1"
CURRENT = tuple(int(part) for part in PLUGIN_API.split("."))


def api_problem(version: object) -> tuple[str, str]:
    """Return why a plugin for API `version` can't be used, and the distribution to upgrade.

    The distribution is `nnkit` if nnkit is too old, and empty otherwise.
    """
    if version is None:
        return f'it states no API version; add NNKIT_PLUGIN_API = "{PLUGIN_API}" to its module', ""
    try:
        major, minor = (int(part) for part in str(version).split("."))
    except ValueError:
        return f"NNKIT_PLUGIN_API is {version!r}, not a version like {PLUGIN_API!r}", ""
    if (major, minor) > CURRENT:
        return f"it needs plugin API {version}, this nnkit has {PLUGIN_API}; upgrade nnkit", "nnkit"
    if major < CURRENT[0]:
        return f"it is for plugin API {version}, this nnkit has {PLUGIN_API}; upgrade the plugin", ""
    return "", ""
