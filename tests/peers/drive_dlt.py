"""drive_dlt.py SPEC.json: a dlt pipeline, from its `rest_api` source into SQLite by its `sqlalchemy` destination.

An exception ends it with exit code 1, as it would any script with a pipeline.
"""

import json
import sys

import dlt
from dlt.sources.helpers.requests import Client
from dlt.sources.rest_api import rest_api_source


class NoPage(Exception):
    pass


def refuse(response, *args, **kwargs):
    """A response action: what has no list of records is no page. dlt has no ready-made one for that."""
    try:
        is_page = "data" in response.json()
    except ValueError:
        is_page = False
    if not is_page:
        raise NoPage


with open(sys.argv[1], encoding="utf-8") as file:
    spec = json.load(file)
config = spec["config"]
if spec["hardened"]:
    client = Client(raise_for_status=False, retry_condition=lambda _, error: isinstance(error, NoPage))
    config["client"]["session"] = client.session
    config["resources"][0]["endpoint"]["response_actions"] = [{"status_code": 200, "action": refuse}]
pipeline = dlt.pipeline(
    "peer",
    pipelines_dir=spec["folder"],
    destination=dlt.destinations.sqlalchemy(f"sqlite:///{spec['database']}"),
    dataset_name="main",
)
if not spec["pages_per_load"]:
    print(pipeline.run(rest_api_source(config)))
else:
    while not (load := pipeline.run(rest_api_source(config).add_limit(spec["pages_per_load"]))).is_empty:
        print(load)
