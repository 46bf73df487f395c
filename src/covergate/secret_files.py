"""Secrets as files: a variable may be a file of its name in a directory, as Docker and Kubernetes mount them; and those that are
made at the first start."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SecretsSettingsSource

SECRETS_DIR = "COVERGATE_SECRETS_DIR"


def make_once(path: Path, content: str) -> bool:
    """Complete or not at all, for its owner only, and never over one that another process has just made. Raises OSError."""
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)  # like O_EXCL, but the content is already in it
        except FileExistsError:
            return False
    finally:
        draft.unlink(missing_ok=True)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
    return True


class FromFiles(BaseSettings):
    """Settings that are read from the directory that `COVERGATE_SECRETS_DIR` names, after the environment and `.env`."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        files = SecretsSettingsSource(settings_cls, secrets_dir=os.environ.get(SECRETS_DIR) or None)
        return init_settings, env_settings, dotenv_settings, files
