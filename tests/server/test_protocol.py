"""What the service answers on its socket, and whom it refuses."""

from __future__ import annotations

import hashlib
import http.client
import json
import socket
import threading
from pathlib import Path

import pytest
from animatic.blender_addon.errors import AnimaticError
from animatic.blender_addon.link.client import EngineClient, EngineRefused, ProtocolMismatch
from animatic.blender_addon.shot.request import build_request, request_hash

from .conftest import make_request, write_guide


def ask(service, method="GET", path="/v1/health", body=None, **headers):
    """One raw request; a header given as None is left out."""
    token = service.client()._headers["Authorization"]
    sent = {"Authorization": token, "X-Animatic-Protocol": "1"}
    sent |= {name.replace("_", "-"): value for name, value in headers.items()}
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=20)
    connection.request(method, path, body, {k: v for k, v in sent.items() if v is not None})
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, json.loads(content)


def control(*guides: str, clip_frame: int = 0, **more: object) -> list[dict]:
    return [
        {
            "guide": "depth",
            "strength": 1.0,
            **more,
            "keyframes": [
                {"clip_frame": clip_frame + k, "sha256": sha256, "strength": 1.0}
                for k, sha256 in enumerate(guides)
            ],
        }
    ]


def test_round_trip(service, client, tmp_path):
    guides = [client.upload(write_guide(tmp_path / f"{k}.png", k)) for k in (10, 20)]
    assert client.upload(tmp_path / "10.png") == guides[0]
    request = make_request(seeds=(3, 4), controls=control(*guides), shot={"name": "dolly"})
    job = client.submit(request, plan={"device": "cpu", "threads": 2})
    events = list(client.events(job))

    kinds = [event["event"] for event in events]
    assert kinds[:2] == ["state", "state"]
    assert kinds[-1] == "end"
    assert kinds.count("take") == 2
    assert any(event["data"] == bytes([2]) * 100 for event in events if event["event"] == "preview")
    ids = [event["id"] for event in events]
    assert ids == sorted(set(ids))

    state = client.job(job)
    assert (state["state"], state["error"], state["queue_position"]) == ("done", None, None)
    assert state["request"] == request
    canonical = json.dumps(request, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    for index, seed in enumerate((3, 4)):
        folder = tmp_path / f"take{index}"
        take = client.download(job, index, folder)
        assert take["seed"] == seed
        assert take["request_sha256"] == hashlib.sha256(canonical.encode()).hexdigest()
        assert take["checkpoint"]["name"] == "tiny"
        assert take["plan"] == {"device": "cpu", "threads": 2}
        assert sorted(path.name for path in folder.iterdir()) == [
            "frames",
            "take.json",
            "video.mp4",
        ]
        assert sorted(path.name for path in (folder / "frames").iterdir()) == [
            "0001.png",
            "0002.png",
        ]
        assert b"ftyp" in (folder / "video.mp4").read_bytes()[:12]
    with pytest.raises(AnimaticError, match="exists already"):
        client.download(job, 0, tmp_path / "take0")

    # The same seed gives the same bytes.
    again = client.submit(make_request(seeds=(3,), controls=control(*guides)))
    assert list(client.events(again))[-1]["data"]["state"] == "done"
    assert client.job(again)["takes"][0]["frames"] == state["takes"][0]["frames"]

    # What is deleted takes along its files, but for guides that another job names.
    data = Path(service._data)
    client.delete(job)
    with pytest.raises(EngineRefused, match="no job"):
        client.job(job)
    assert client.job(again)["state"] == "done"
    assert not (data / "jobs" / job).exists()
    assert {(data / "blobs" / sha256).exists() for sha256 in guides} == {True}
    client.delete(again)
    assert {(data / "blobs" / sha256).exists() for sha256 in guides} == {False}


class CuttingProxy(threading.Thread):
    """Passes connections on to the service, and cuts each after so many bytes of the answer."""

    def __init__(self, port: int, cut_after: int) -> None:
        super().__init__(daemon=True)
        self._service = port
        self._cut_after = cut_after
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self.connections = 0
        self.start()

    def run(self) -> None:
        while True:
            near, _ = self._listening.accept()
            self.connections += 1
            with near, socket.create_connection(("127.0.0.1", self._service)) as far:
                far.sendall(near.recv(1 << 16))
                left = self._cut_after
                while left > 0 and (data := far.recv(min(left, 4096))):
                    near.sendall(data)
                    left -= len(data)


def test_a_cut_connection_misses_no_event(service, client):
    proxy = CuttingProxy(service.port, 900)
    through = EngineClient(
        "127.0.0.1", proxy.port, client._headers["Authorization"].removeprefix("Bearer ")
    )
    job = client.submit(make_request(steps=12))
    seen = [event for event in through.events(job) if event["event"] != "preview"]
    assert proxy.connections > 3
    assert seen == [event for event in client.events(job) if event["event"] != "preview"]
    # From the middle on, as a client that was restarted asks.
    middle = seen[len(seen) // 2]["id"]
    rest = [event["id"] for event in client.events(job, since=middle)]
    assert rest == [event["id"] for event in seen if event["id"] > middle]


@pytest.mark.parametrize(
    ("headers", "status", "sentence"),
    [
        ({"Authorization": None}, 401, "token"),
        ({"Authorization": "Bearer wrong"}, 401, "token"),
        ({"Authorization": "Bearer \xff"}, 401, "token"),
        ({"Origin": "http://127.0.0.1"}, 403, "web pages"),
        ({"Host": "evil.example"}, 403, "this machine only"),
        ({"Host": "127.0.0.1.evil.example:80"}, 403, "this machine only"),
        ({"X_Animatic_Protocol": "2"}, 426, "protocol 1, the add-on speaks 2"),
        ({"X_Animatic_Protocol": None}, 426, "protocol 1"),
        ({"Host": "localhost"}, 200, None),
    ],
)
def test_only_our_own_add_on_gets_an_answer(service, headers, status, sentence):
    got, content = ask(service, **headers)
    assert got == status
    if sentence:
        assert sentence in content["error"]


def test_the_client_tells_a_protocol_mismatch(client, monkeypatch):
    monkeypatch.setitem(client._headers, "X-Animatic-Protocol", "7")
    with pytest.raises(ProtocolMismatch, match=r"protocol 1.*speaks 7"):
        client.health()


def test_bad_blobs_are_refused(service, tmp_path):
    png = write_guide(tmp_path / "a.png", 77).read_bytes()
    sha256 = hashlib.sha256(png).hexdigest()
    blobs = Path(service._data) / "blobs"
    before = set(blobs.iterdir())
    for name, body, status, sentence in (
        (sha256, png[:-1], 422, "does not have the hash"),
        (hashlib.sha256(b"hello").hexdigest(), b"hello", 422, "not a PNG"),
        ("..%2Fescape", png, 404, ""),
        (sha256.upper(), png, 422, "SHA-256"),
        (sha256, png + bytes(64 << 20), 413, "larger than 64 MB"),
    ):
        got, content = ask(service, "PUT", f"/v1/blobs/{name}", body)
        assert (got, sentence in content.get("error", "")) == (status, True)
    assert set(blobs.iterdir()) == before


def test_a_guide_that_is_empty_on_the_disk_is_asked_for_again(service, client, tmp_path):
    guide = write_guide(tmp_path / "guide.png", 78)
    sha256 = client.upload(guide)
    stored = Path(service._data) / "blobs" / sha256
    stored.write_bytes(b"")
    with pytest.raises(EngineRefused, match="guides are not here"):
        client.submit(make_request(controls=control(sha256)))
    client.upload(guide)
    assert stored.read_bytes() == guide.read_bytes()


def first_frame(**asked):
    return {"sampling": {"steps": 2, "guidance": 7, "first_frame": {**asked, "share": True}}}


def motion(clip_frame: int, to: int):
    return [{"clip_frame": clip_frame, "to": to, "sha256": "a" * 64}]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            {"clip": {"frames": 2, "fps": "8", "width": 100, "height": 64}},
            "clip.width is 100: it must be a multiple of 8 between 64 and 2048.",
        ),
        *(
            (
                {"clip": {"frames": 2, "fps": fps, "width": 64, "height": 64}},
                f'clip.fps is "{fps}": it must be from 1/1000 to 240.',
            )
            for fps in ("1/9999999", "2401/10")
        ),
        ({"seeds": []}, "seeds is a list of 0: it must be a list of 1 to 64 seeds"),
        (
            {"sampling": {"steps": 20.0, "guidance": 7}},
            "sampling.steps is 20.0: it must be a whole",
        ),
        ({"sampling": {"steps": 20}}, "sampling.guidance is missing"),
        ({"path": "/etc/passwd"}, "path is not part of a request"),
        ({"prompt": "x" * 4001}, "prompt is text of 4001 characters"),
        ({"prompt": "\ud800"}, "cannot be written"),
        ({"schema": 2}, "schema is 2: it must be 1"),
        ({"controls": control("a" * 64, clip_frame=2)}, "clip_frame is 2: it must be below 2"),
        ({"controls": control("a" * 64) * 2}, "controls[1].guide is depth a second time"),
        ({"controls": control("a" * 64, encoder="dense")}, "it must be sparse (SparseCtrl) or"),
        ({"controls": control("a" * 64, start=0.5, end=0.5)}, "acts from 0.5 to 0.5 of the steps"),
        (
            {"controls": control("a" * 64, guide="lineart", blur=1)},
            "controls[0].blur is 1: only depth guides can be blurred, and this is lineart.",
        ),
        ({"prompts": [{"clip_frame": 2, "prompt": "x"}]}, "prompts[0].clip_frame is 2: it must be"),
        (
            {"prompts": [{"clip_frame": 1, "prompt": "x"}] * 2},
            "prompts[1].clip_frame is 1 a second time: a clip frame can hold one prompt.",
        ),
        ({"deflicker": motion(0, 2)}, "deflicker[0] is from clip frame 0 to 2: it must be from a"),
        ({"deflicker": motion(0, 1) * 2}, "deflicker[1] is from clip frame 0 to 1: it must be"),
        ({"deflicker": motion(1, 0)}, "1 of the request's guides are not"),
        ({"image_prompt": {"sha256": "a" * 64, "scale": 3}}, "image_prompt.scale is 3: it must be"),
        ({"image_prompt": {"sha256": "a" * 64, "scale": 1}}, "1 of the request's guides are not"),
        (first_frame(sha256="a" * 64, generated=True), "must be left out, for a picture that is"),
        (first_frame(sha256="a" * 64, seed=1), "must be left out, for only a generated picture"),
        (first_frame(generated=False), "first_frame.generated is false: it must be true"),
        (first_frame(), "first_frame.sha256 is missing"),
        ({"controls": control("../x")}, 'sha256 is "../x": it must be a SHA-256'),
        ({"controls": control("a" * 64)}, "1 of the request's guides are not here"),
        (
            {"checkpoint": {"name": "none", "sha256": None}},
            'no checkpoint "none". There are: broken, odd, tiny',
        ),
        ({"checkpoint": {"name": "tiny", "sha256": "b" * 64}}, "has the content 74696e79"),
        ({"checkpoint": {"name": "broken", "sha256": None}}, "unet is missing."),
    ],
)
def test_a_bad_request_gets_a_sentence(client, change, sentence):
    before = len(client.jobs())
    with pytest.raises(EngineRefused) as refusal:
        client.submit(make_request(**change))
    assert refusal.value.status == 422
    assert sentence in str(refusal.value)
    assert len(client.jobs()) == before


def test_a_first_picture_may_be_the_engines_own(client):
    job = client.submit(make_request(**first_frame(generated=True, seed=3)))
    list(client.events(job))
    assert client.job(job)["state"] == "done"


def test_a_reference_picture_may_be_a_jpeg(client, tmp_path):
    photo, guide = tmp_path / "photo.jpg", write_guide(tmp_path / "guide.png", 5)
    photo.write_bytes(b"\xff\xd8\xff\xe0 a photo")
    both = control(client.upload(guide)) + control(client.upload(guide), encoder="image")
    reference = {"sha256": client.upload(photo), "scale": 0.5}
    job = client.submit(make_request(controls=both, image_prompt=reference))
    list(client.events(job))
    assert client.job(job)["state"] == "done"


def test_a_model_is_told_by_name(client):
    assert client.models() == [client.model("tiny")]
    with pytest.raises(EngineRefused, match=r"unet is missing"):
        client.model("broken")
    with pytest.raises(EngineRefused, match=r"models.*odd cannot be read: OverflowError"):
        client.model("odd")
    with pytest.raises(EngineRefused, match="It has: tiny"):
        client.model("other")


def test_the_add_on_builds_what_the_schema_asks(client):
    validate = pytest.importorskip("animatic.server.validate", exc_type=ImportError)
    shot = {"name": "dolly", "clip": {"frames": 16, "fps": "24000/1001", "width": 64, "height": 96}}
    guides = [{"guide": "lineart", "clip_frame": k, "sha256": "a" * 64} for k in (15, 0)]
    request = build_request(
        {"shot": shot, "guides": guides, "depth": None},
        prompt="a café",
        negative_prompt="",
        checkpoint={"name": "tiny", "sha256": None},
        seeds=[0, 2**32 - 1],
        steps=20,
        guidance=7,
        strength=1,
    )
    validate.check_request(request)
    assert validate.canonical_sha256(request) == request_hash(request)


def test_malformed_json_is_refused(service):
    for body in (b"{", b'{"request": NaN}', b"[" * 100_000, b"[]"):
        assert ask(service, "POST", "/v1/jobs", body)[0] == 422


def test_events_are_counted_from_a_number_that_can_be_one(service, client):
    job = client.submit(make_request())
    list(client.events(job))
    for since in (10**20, -(10**20)):
        status, content = ask(service, path=f"/v1/jobs/{job}/events?since={since}")
        assert (status, content["error"]) == (422, "since must be the number of an event.")
