"""One suite for all: options, profiles and the verdict table live in properties/plugin.py."""

pytest_plugins = ["properties.plugin"]
