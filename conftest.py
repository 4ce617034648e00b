"""One suite for all: options, profiles and the verdict table live in properties/plugin.py."""

import sys

# Where a run in another folder asks for the suite, that has loaded the plugin, and pytest takes it from no
# conftest.py outside of that folder.
if "properties.plugin" not in sys.modules:
    pytest_plugins = ["properties.plugin"]
