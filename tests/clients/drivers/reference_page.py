"""The example of the reference page, with an unmodified `elasticsearch` client as it comes.

Run by the interpreter of the client's own environment: URL API_KEY TEXT. Prints what the client
made of each answer, whether it gave the first call up, and what it was warned of with it.
"""

import json
import sys
import time
import warnings

from elasticsearch import ConnectionTimeout, Elasticsearch

URL, API_KEY, TEXT = sys.argv[1:]
ID = {"task_type": "sparse_embedding", "inference_id": "my-elser-model"}
CONFIG = {"service": "elser", "service_settings": {"num_allocations": 1, "num_threads": 1}}


def main():
    client = Elasticsearch(URL, api_key=API_KEY)
    begun = time.monotonic()
    seen = {"put": None, "gave up": False}
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            seen["put"] = client.inference.put(**ID, inference_config=CONFIG).body
        except ConnectionTimeout:
            seen["gave up"] = True
    seen["warnings"] = [str(one.message) for one in told]
    seen["seconds"] = time.monotonic() - begun
    seen["get"] = client.inference.get(**ID).body
    patient = client.options(request_timeout=150)
    seen["post"] = patient.inference.inference(**ID, input=[TEXT], timeout="140s").body
    seen["model"] = client.ml.get_trained_models(
        model_id=".elser_model_2_linux-x86_64", include="definition_status"
    ).body
    seen["get at the end"] = client.inference.get(**ID).body
    json.dump(seen, sys.stdout)


main()
