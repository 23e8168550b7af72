"""A place for backups that cannot be reached, as an integration of Home Assistant's own kind has it."""

from homeassistant.components.backup import BackupAgent, BackupAgentError, BackupNotFound


class Unreachable(BackupAgent):
    domain = "unreachable"
    name = unique_id = "far"

    async def async_upload_backup(self, *, open_stream, backup, **kwargs):
        raise BackupAgentError("it is far away")

    async def async_delete_backup(self, backup_id, **kwargs):
        raise BackupAgentError("it is far away")

    async def async_list_backups(self, **kwargs):
        return []

    async def async_get_backup(self, backup_id, **kwargs):
        raise BackupNotFound(backup_id)

    async def async_download_backup(self, backup_id, **kwargs):
        raise BackupNotFound(backup_id)


async def async_get_backup_agents(hass, **kwargs):
    return [Unreachable()]


def async_register_backup_agents_listener(hass, *, listener, **kwargs):
    return lambda: None
