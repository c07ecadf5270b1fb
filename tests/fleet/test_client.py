"""The client's answers against the server's own schemas: what the client names, the server sends."""

import pytest

from skerry.client.answers import fleet as ours
from skerry.fleet.schemas import changes, things


@pytest.mark.parametrize(
    ("answer", "schema"),
    [
        (ours.LeafRow, changes.LeafRow),
        (ours.Endangered, things.EndangeredOut),
        (ours.FieldChange, changes.FieldChange),
        (ours.FleetChange, changes.ChangeOut),
        (ours.FleetPlan, changes.PlanOut),
        (ours.CatalogueSku, changes.CatalogueOut),
        (ours.FleetNode, changes.MovedNode),
        (ours.Delivery, changes.DeliveryOut),
        (ours.Maintenance, changes.PlannedMaintenance),
    ],
)
def test_the_client_names_what_the_server_sends(answer, schema):
    assert set(answer.__struct_fields__) <= set(schema.model_fields)
