"""The principal for whom the lines of a batch are ordered."""

from gateway.access.principal import TEAM_SCOPES, Principal, make_configured_principal, make_stored_principal
from gateway.api.api_context import ApiContext
from gateway.api.batches.batch_records import Batch


def find_batch_principal(context: ApiContext, batch: Batch) -> Principal:
    """Returns the API key that created the batch, with its present options: they may have changed since. If this
    replica does not have the key, they are those that it had then."""
    if (key := context.key_registry.find_key_by_id(batch.key_id)) is not None:
        return make_stored_principal(key)
    for configured in context.catalogue().configured_keys.values():
        if (configured.id, configured.team) == (batch.key_id, batch.team):
            return make_configured_principal(configured)
    return Principal(
        key_id=batch.key_id,
        team=batch.team,
        scopes=TEAM_SCOPES,
        policies=batch.policies,
        limits=batch.limits,
        limits_id=batch.limits_id,
        budget=batch.budget,
    )
