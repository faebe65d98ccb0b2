"""`_ml/trained_models`: a model is created, filled, shown and removed."""

from __future__ import annotations

import base64
import hashlib
import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.wire.conftest import new_id

BODY = {
    "description": "Model of a test",
    "model_type": "pytorch",
    "inference_config": {
        "text_embedding": {
            "tokenization": {"bert": {"max_sequence_length": 128, "do_lower_case": True}},
            "embedding_size": 32,
        }
    },
    "input": {"field_names": ["text_field"]},
    "metadata": {"per_deployment_memory_bytes": 211584, "per_allocation_memory_bytes": 662656},
    "prefix_strings": {"ingest": "passage: ", "search": "query: "},
}
ACKNOWLEDGED = {"acknowledged": True}


def create(wire, body=None):
    model_id = new_id("model")
    reply = wire.call("PUT", f"/_ml/trained_models/{model_id}", body or BODY)
    assert reply.status == 200, reply.content
    return model_id


def part_of(content, total, parts):
    return {
        "definition": base64.b64encode(content).decode(),
        "total_definition_length": total,
        "total_parts": parts,
    }


def put_part(wire, model_id, content, part=0, *, total, parts):
    path = f"/_ml/trained_models/{model_id}/definition/{part}"
    return wire.call("PUT", path, part_of(content, total, parts))


def put_vocabulary(wire, model_id, words=("[PAD]", "[UNK]")):
    path = f"/_ml/trained_models/{model_id}/vocabulary"
    return wire.call("PUT", path, {"vocabulary": list(words)})


def files_of(wire, model_id):
    folder = wire.server.data_dir / "models" / "uploads" / model_id
    return sorted(str(one.relative_to(folder)) for one in folder.rglob("*") if one.is_file())


def test_a_new_model_answers_with_its_stored_form(wire):
    model_id = new_id("model")

    reply = wire.call("PUT", f"/_ml/trained_models/{model_id}", BODY)

    assert reply.status == 200
    shown = reply.json
    assert shown.pop("create_time") > 0
    assert shown == {
        "model_id": model_id,
        "model_type": "pytorch",
        "created_by": "api_user",
        "version": "12.0.0",
        "model_size_bytes": 0,
        "estimated_operations": 0,
        "license_level": "platinum",
        "description": "Model of a test",
        "metadata": BODY["metadata"],
        "input": {"field_names": ["text_field"]},
        "inference_config": {
            "text_embedding": {
                "vocabulary": {"index": ".ml-inference-native-000002"},
                "tokenization": {
                    "bert": {
                        "do_lower_case": True,
                        "with_special_tokens": True,
                        "max_sequence_length": 128,
                        "truncate": "first",
                        "span": -1,
                    }
                },
                "embedding_size": 32,
                "results_field": "predicted_value",
            }
        },
        "prefix_strings": BODY["prefix_strings"],
        "location": {"index": {"name": ".ml-inference-native-000002"}},
    }


def test_a_model_is_filled_part_by_part_and_removed_without_a_trace(wire):
    model_id = create(wire)
    path = f"/_ml/trained_models/{model_id}?include=definition_status"
    content = bytes(range(256)) * 4096

    for part in range(3):
        first = part * 400_000
        piece = content[first : first + 400_000]
        reply = put_part(wire, model_id, piece, part, total=len(content), parts=3)
        assert (reply.status, reply.json) == (200, ACKNOWLEDGED)
    before = wire.call("GET", path).json["trained_model_configs"][0]
    assert put_vocabulary(wire, model_id).json == ACKNOWLEDGED
    after = wire.call("GET", path).json["trained_model_configs"][0]

    assert [before["fully_defined"], after["fully_defined"]] == [False, True]
    assert after["model_size_bytes"] == len(content)
    folder = wire.server.data_dir / "models" / "uploads" / model_id
    name = f"{hashlib.sha256(content).hexdigest()}.pt"
    assert (folder / name).read_bytes() == content
    suffixes = sorted(one.rpartition(".")[2] for one in files_of(wire, model_id))
    assert suffixes == ["json", "json", "pt"]
    assert wire.call("DELETE", f"/_ml/trained_models/{model_id}").json == ACKNOWLEDGED
    assert not folder.exists()
    assert wire.call("GET", path).status == 404
    assert list((wire.server.data_dir / "models" / "incoming").iterdir()) == []


def test_parts_may_come_at_the_same_time(wire):
    model_id = create(wire)
    pieces = [bytes([part]) * 50_000 for part in range(12)]

    def put(part):
        return put_part(wire, model_id, pieces[part], part, total=600_000, parts=12).status

    with ThreadPoolExecutor(6) as pool:
        statuses = list(pool.map(put, range(12)))

    assert statuses == [200] * 12
    digest = hashlib.sha256(b"".join(pieces)).hexdigest()
    assert files_of(wire, model_id) == sorted([f"{digest}.pt", "metadata.json"])


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"definition":"!!!","total_definition_length":1,"total_parts":1}', "base64"),
        (b'{"definition":"AA==","total_parts":1}', "Required [total_definition_length]"),
        (b'{"definition":"AA==","total_definition_length":1,"total_parts":1,"x":1}', "[x]"),
        (b'{"definition":"AA==","total_definition_length":"a","total_parts":1}', "total_def"),
        (b'{"definition":"AA==","total_definition', "Unexpected end"),
        (b"", "required"),
    ],
)
def test_a_part_that_cannot_be_read_is_refused_and_leaves_nothing(wire, body, reason):
    model_id = create(wire)

    headers = {"Content-Type": "application/json"}
    path = f"/_ml/trained_models/{model_id}/definition/0"
    reply = wire.call("PUT", path, raw=body, headers=headers)

    assert reply.status == 400
    assert reason in reply.json["error"]["reason"]
    assert files_of(wire, model_id) == ["metadata.json"]


def test_a_part_that_is_cut_off_leaves_nothing(wire):
    model_id = create(wire)
    body = json.dumps(part_of(b"x" * 300_000, 600_000, 2)).encode()
    connection = wire.server.connect().http
    connection.putrequest("PUT", f"/_ml/trained_models/{model_id}/definition/0")
    connection.putheader("Authorization", wire.server.authorization)
    connection.putheader("Content-Type", "application/json")
    connection.putheader("Content-Length", str(len(body)))
    connection.endheaders(body[:200_000])
    connection.close()

    reply = put_part(wire, model_id, b"x" * 300_000, 0, total=600_000, parts=2)

    assert reply.status == 200
    assert len(files_of(wire, model_id)) == 2


@pytest.mark.parametrize("what", ["definition/0", "vocabulary"])
def test_what_belongs_to_no_model_is_not_found(wire, what):
    body = part_of(b"a", 1, 1) if what != "vocabulary" else {"vocabulary": ["a"]}

    reply = wire.call("PUT", f"/_ml/trained_models/nobody/{what}", body)

    assert reply.status == 404
    assert reply.json["error"]["type"] == "resource_not_found_exception"
    assert reply.json["error"]["reason"] == "No known trained model with model_id [nobody]"


def test_a_second_model_of_an_id_is_refused(wire):
    model_id = create(wire)

    reply = wire.call("PUT", f"/_ml/trained_models/{model_id}", BODY)

    assert reply.status == 400
    assert reply.json["error"]["type"] == "resource_already_exists_exception"
    assert (
        f"Trained machine learning model [{model_id}] already exists"
        in (reply.json["error"]["reason"])
    )


def test_an_unknown_setting_is_named_with_its_place(wire):
    config = {"text_embedding": {"tokenization": {"bert": {"lower": True}}}}
    body = {"model_type": "pytorch", "inference_config": config}

    reply = wire.call("PUT", f"/_ml/trained_models/{new_id('model')}", body)

    assert reply.status == 400
    assert reply.json["error"]["type"] == "x_content_parse_exception"
    root = reply.json["error"]["root_cause"][0]["reason"]
    assert "[bert_tokenization] unknown field [lower]" in root


def test_a_model_whose_texts_cannot_be_tokenized_is_refused_before_it_is_uploaded(wire):
    config = {"text_embedding": {"tokenization": {"bert_ja": {"do_lower_case": False}}}}
    path = f"/_ml/trained_models/{new_id('model')}"

    reply = wire.call("PUT", path, {"model_type": "pytorch", "inference_config": config})

    assert reply.status == 400
    assert reply.json["error"]["type"] == "illegal_argument_exception"
    reason = reply.json["error"]["reason"]
    known = "bert, mpnet, roberta, xlm_roberta, deberta_v2"
    assert reason.startswith(f"[tokenization] must be one of [{known}], got [bert_ja]: ")
    assert wire.call("GET", path).status == 404


def test_models_are_listed_by_id_pattern_and_page(wire):
    ids = sorted([create(wire), create(wire), create(wire, {**BODY, "tags": ["tagged"]})])
    joined = ",".join(ids)

    def listed(path):
        answer = wire.call("GET", f"/_ml/trained_models{path}").json
        return answer["count"], [one["model_id"] for one in answer["trained_model_configs"]]

    assert listed(f"/{joined}") == (3, ids)
    assert listed(f"/{joined}?from=1&size=1") == (3, ids[1:2])
    assert listed(f"/{joined}?tags=tagged")[0] == 1
    assert listed("/nothing-like-this*") == (0, [])
    assert set(ids) <= set(listed("?size=1000")[1])
    assert set(ids) <= set(listed("/_all?size=1000")[1])
    assert set(ids) <= set(listed("/model-*?size=1000")[1])


@pytest.mark.parametrize(
    ("path", "status", "reason"),
    [
        ("/nobody", 404, "No known trained model with model_id [nobody]"),
        ("/nobody,nobody*", 404, "No known trained model with model_id [nobody]"),
        ("/nobody*?allow_no_match=false", 404, "No known trained model with model_id [nobody*]"),
        ("?from=-1", 400, "Parameter [from] cannot be < 0"),
        ("?size=a", 400, "[size]"),
        ("?include=weights", 400, "unknown [include] parameter"),
    ],
)
def test_a_list_that_cannot_be_is_refused(wire, path, status, reason):
    reply = wire.call("GET", f"/_ml/trained_models{path}")

    assert reply.status == status
    assert reason in reply.json["error"]["reason"]


def test_what_is_generated_can_be_left_out(wire):
    model_id = create(wire)

    reply = wire.call("GET", f"/_ml/trained_models/{model_id}?exclude_generated=true")

    shown = reply.json["trained_model_configs"][0]
    assert "create_time" not in shown
    assert "created_by" not in shown
    assert shown["description"] == "Model of a test"


def test_a_model_is_known_by_its_other_names(wire):
    model_id, name = create(wire), new_id("name") + "-x"
    path = f"/_ml/trained_models/{model_id}/model_aliases/{name}"

    given = wire.call("PUT", path)
    shown = wire.call("GET", f"/_ml/trained_models/{name}").json["trained_model_configs"]
    stats = wire.call("GET", f"/_ml/trained_models/{name}/_stats").json["trained_model_stats"]
    docs = {"docs": [{"text_field": "a"}]}
    asked = wire.call("POST", f"/_ml/trained_models/{name}/_infer", docs)
    started = wire.call("POST", f"/_ml/trained_models/{name}/deployment/_start")
    taken = wire.call("DELETE", path)

    assert given.json == taken.json == ACKNOWLEDGED
    assert [one["model_id"] for one in shown] == [model_id]
    assert shown[0]["metadata"]["model_aliases"] == [name]
    assert [one["model_id"] for one in stats] == [model_id]
    assert f"[{model_id}] must be deployed" in asked.json["error"]["reason"]
    assert started.json["error"]["reason"].endswith(f"definition [{model_id}]")
    assert wire.call("GET", f"/_ml/trained_models/{name}").status == 404
    assert wire.call("DELETE", path).status == 404
