"""The sample web app: every answer a client can get, and that it gives nothing away."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fakeredis
import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from checkpoint_runner import Runner, configure, default_runner
from checkpoint_runner.errors import RedisRefused, RedisUnavailable
from workers import web
from workers.tasks import stdlib_index

INDEX = {"database": "index.db", "limit": 3}
NOWHERE = "0" * 32


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CHECKPOINT_RUNNER_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture
def runner() -> Iterator[Runner]:
    runner = Runner(fakeredis.FakeRedis(server=fakeredis.FakeServer()))
    yield runner
    runner.close()


@pytest.fixture
def client(runner: Runner) -> FlaskClient:
    return web.create_app(runner).test_client()


@pytest.fixture
def started(client: FlaskClient) -> str:
    """The URL of a queued job."""
    return client.post("/jobs/index_stdlib", json=INDEX).headers["Location"]


def problem(response: TestResponse, status: int) -> dict[str, Any]:
    """Return the problem that a response with that status holds."""
    assert response.status_code == status, response.text
    assert response.mimetype == "application/problem+json"
    found: dict[str, Any] = json.loads(response.data)
    assert found["status"] == status
    assert found["title"]
    assert found["detail"]
    return found


class TestStart:
    @pytest.mark.parametrize("task", ["index_stdlib", "workers.tasks.stdlib_index.index_stdlib"])
    def test_a_start_is_accepted_and_says_where_to_look(self, client: FlaskClient, task: str) -> None:
        """A client could not start a job, or not find it again."""
        response = client.post(f"/jobs/{task}", json=INDEX)
        assert response.status_code == 202
        job = json.loads(response.data)
        assert job["status"] == "queued"
        assert job["task"] == "workers.tasks.stdlib_index.index_stdlib"
        assert response.headers["Location"] == job["links"]["self"] == f"/jobs/{job['id']}"
        assert client.get(response.headers["Location"]).status_code == 200

    def test_the_same_idempotency_key_gives_the_same_job(self, client: FlaskClient, runner: Runner) -> None:
        """A client that sends a request again after a lost reply would start the work twice."""
        headers = {"Idempotency-Key": "order 7"}
        first = client.post("/jobs/index_stdlib", json=INDEX, headers=headers)
        again = client.post("/jobs/index_stdlib", json=INDEX, headers=headers)
        assert first.status_code == again.status_code == 202
        assert first.headers["Location"] == again.headers["Location"]
        assert len(runner.jobs()) == 1

    def test_the_same_key_with_other_arguments_is_a_conflict(self, client: FlaskClient) -> None:
        """A client's mistake with its keys would silently drop one of two requests."""
        headers = {"Idempotency-Key": "order 7"}
        client.post("/jobs/index_stdlib", json=INDEX, headers=headers)
        other = client.post("/jobs/index_stdlib", json=INDEX | {"limit": 4}, headers=headers)
        assert "order 7" in problem(other, 409)["detail"]

    @pytest.mark.parametrize("task", ["nothing", "os.system", "workers.tasks.stdlib_index.index_plainly", "a%00b"])
    def test_an_unknown_task_is_not_found(self, client: FlaskClient, task: str) -> None:
        """A client could run functions that nobody offered it."""
        assert "index_stdlib" in problem(client.post(f"/jobs/{task}", json=INDEX), 404)["detail"]

    @pytest.mark.parametrize(
        ("arguments", "named"),
        [
            ({}, "database"),
            (INDEX | {"speed": 3}, "speed"),
            (INDEX | {"limit": "three"}, "limit"),
            (INDEX | {"limit": -1}, "limit"),
            (INDEX | {"limit": 10**30}, "limit"),
            (INDEX | {"delay": 1e9}, "delay"),
            (INDEX | {"database": "../../etc/passwd"}, "etc/passwd"),
            (INDEX | {"database": "/tmp/x.db"}, "/tmp/x.db"),
            (INDEX | {"database": ["x.db"]}, "x.db"),
            (INDEX | {"checkpoint": 1}, "checkpoint"),
        ],
    )
    def test_arguments_that_do_not_fit_are_named(
        self, client: FlaskClient, runner: Runner, data: Path, arguments: dict[str, Any], named: str
    ) -> None:
        """A wrong call would be accepted and fail later in a worker, or reach files it must not."""
        assert named in problem(client.post("/jobs/index_stdlib", json=arguments), 422)["detail"]
        assert runner.jobs() == []
        assert not data.exists() or not list(data.iterdir())

    def test_a_csv_path_is_held_to_the_data_folder_as_well(self, client: FlaskClient) -> None:
        """A client could overwrite a file anywhere with a CSV."""
        arguments = {"csv_path": "../people.csv", "database": "people.db"}
        problem(client.post("/jobs/import_csv", json=arguments), 422)

    def test_a_key_that_cannot_be_used_is_refused(self, client: FlaskClient) -> None:
        """Endless keys would fill the server's memory."""
        response = client.post("/jobs/index_stdlib", json=INDEX, headers={"Idempotency-Key": "k" * 501})
        assert "key" in problem(response, 422)["detail"]

    @pytest.mark.parametrize("content_type", [None, "text/plain", "application/x-www-form-urlencoded"])
    def test_a_body_of_another_type_is_refused(self, client: FlaskClient, content_type: str | None) -> None:
        """A form on a foreign page could start jobs in the name of whoever looks at it."""
        problem(client.post("/jobs/index_stdlib", data=json.dumps(INDEX), content_type=content_type), 415)

    @pytest.mark.parametrize("body", ["", "{", "[]", "null", '"x"', '{"limit": NaN}', "[" * 60_000, '{"a": "\\ud800"}'])
    def test_a_body_that_is_no_json_object_is_refused(self, client: FlaskClient, body: str) -> None:
        """A garbled request would end in a server error."""
        problem(client.post("/jobs/index_stdlib", data=body, content_type="application/json"), 400)

    def test_a_huge_body_is_refused(self, client: FlaskClient) -> None:
        """One request could fill the memory of the web worker."""
        problem(client.post("/jobs/index_stdlib", json={"database": "x" * web.LONGEST_BODY}), 413)


class TestShow:
    def test_a_job_is_shown_from_start_to_end(self, client: FlaskClient, runner: Runner, started: str) -> None:
        """A page that polls would not see how far the job is, or what came out of it."""
        queued = json.loads(client.get(started).data)
        assert set(queued) == {
            *("id", "task", "status", "reason", "progress", "attempts", "interruptions", "crashes", "lost"),
            *("stop_requested", "result", "error", "created_at", "started_at", "ended_at", "links"),
        }
        assert (queued["status"], queued["result"], queued["started_at"]) == ("queued", None, None)
        runner.work("default")
        job = json.loads(client.get(started).data)
        assert job["status"] == "finished"
        assert job["progress"] == {"done": 3, "total": 3, "message": stdlib_index.source_files(3)[-1]}
        assert job["result"]["files"] == 3
        assert job["attempts"] == 1
        assert job["created_at"] <= job["started_at"] <= job["ended_at"]

    def test_a_failure_shows_type_and_message_only(
        self, client: FlaskClient, runner: Runner, started: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Clients would read the source code, paths and arguments in a traceback."""

        def fail(*_: object) -> None:
            raise OSError("the disk is full")

        monkeypatch.setattr(stdlib_index, "index_file", fail)
        runner.work("default")
        response = client.get(started)
        assert json.loads(response.data)["error"] == {"type": "OSError", "message": "the disk is full"}
        assert "Traceback" not in response.text
        assert "index.db" not in response.text

    @pytest.mark.parametrize("job_id", [NOWHERE, "x", "a:b", "%2e%2e", "x" * 5000])
    @pytest.mark.parametrize(("method", "end"), [("get", ""), ("get", "/events"), ("post", "/pause")])
    def test_an_unknown_job_is_not_found(self, client: FlaskClient, job_id: str, method: str, end: str) -> None:
        """A client would take a job that is gone for one that is quiet."""
        problem(getattr(client, method)(f"/jobs/{job_id}{end}"), 404)

    def test_jobs_are_listed_by_status_within_a_limit(self, client: FlaskClient, runner: Runner, started: str) -> None:
        """A page of jobs would show the wrong ones, or all of a million."""
        runner.work("default")
        client.post("/jobs/index_stdlib", json=INDEX)
        client.post("/jobs/index_stdlib", json=INDEX)
        listed: Callable[[str], list[str]] = lambda query: [  # noqa: E731
            job["status"] for job in json.loads(client.get(f"/jobs{query}").data)["jobs"]
        ]
        assert sorted(listed("")) == ["finished", "queued", "queued"]
        assert listed("?status=finished") == ["finished"]
        assert listed("?status=queued&limit=1") == ["queued"]
        assert listed("?status=paused") == []

    @pytest.mark.parametrize("query", ["status=sleeping", "status=", "limit=0", "limit=101", "limit=x", "limit=²"])
    def test_a_senseless_filter_is_refused(self, client: FlaskClient, query: str) -> None:
        """A typing error would look like an empty list."""
        assert "expected" in problem(client.get(f"/jobs?{query}"), 422)["detail"]

    def test_a_result_that_no_longer_fits_does_not_hide_the_list(
        self, client: FlaskClient, runner: Runner, started: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        """After a deploy one old job would make the list of all jobs fail."""
        runner.work("default")
        job_id = started.rpartition("/")[2]
        runner._backend.client.hset(runner._backend.keys.job(job_id), "result", b'"text"')
        [job] = json.loads(client.get("/jobs").data)["jobs"]
        assert job["result"] is None
        assert job_id in caplog.text


class TestSteer:
    def test_a_job_is_paused_resumed_cancelled_and_retried(
        self, client: FlaskClient, runner: Runner, started: str
    ) -> None:
        """A person could not stop a job, or not let it go on."""
        for verb, status in [("pause", "paused"), ("resume", "queued"), ("cancel", "cancelled"), ("retry", "queued")]:
            response = client.post(f"{started}/{verb}")
            assert (response.status_code, json.loads(response.data)["status"]) == (200, status)
        runner.work("default")
        assert json.loads(client.get(started).data)["status"] == "finished"

    @pytest.mark.parametrize("verb", ["pause", "resume", "cancel", "retry"])
    def test_what_is_not_possible_now_says_the_status(
        self, client: FlaskClient, runner: Runner, started: str, verb: str
    ) -> None:
        """A client would believe that it had stopped a job that is long finished."""
        runner.work("default")
        found = problem(client.post(f"{started}/{verb}"), 409)
        assert found["job_status"] == "finished"
        assert "finished" in found["detail"]

    @pytest.mark.parametrize("verb", ["pause", "resume", "cancel", "retry"])
    def test_a_link_changes_nothing(self, client: FlaskClient, started: str, verb: str) -> None:
        """A crawler, or an image on a foreign page, could cancel jobs."""
        response = client.get(f"{started}/{verb}")
        problem(response, 405)
        assert "POST" in response.headers["Allow"]
        assert "GET" not in response.headers["Allow"]
        assert json.loads(client.get(started).data)["status"] == "queued"

    def test_an_unknown_verb_is_not_found(self, client: FlaskClient, started: str) -> None:
        """A client could call any method of a job, such as its deletion."""
        problem(client.post(f"{started}/delete"), 404)


class TestEvents:
    def test_the_stream_tells_the_end_and_ends(self, client: FlaskClient, runner: Runner, started: str) -> None:
        """A browser would come again for ever to ask after a finished job."""
        runner.work("default")
        response = client.get(f"{started}/events")
        assert response.mimetype == "text/event-stream"
        retry, job, end = response.text.strip().split("\n\n")
        assert retry == "retry: 1000"
        kind, _, payload = job.partition("\ndata: ")
        assert (kind, json.loads(payload)) == ("event: job", json.loads(client.get(started).data))
        assert end == "event: end\ndata: {}"

    def test_the_stream_shows_each_change(self, client: FlaskClient, runner: Runner, started: str) -> None:
        """A page that listens would stand still while the job goes on."""
        stream = client.get(f"{started}/events").iter_encoded()
        assert next(stream).startswith(b"retry")
        assert b'"status":"queued"' in next(stream)
        client.post(f"{started}/pause")
        assert b'"status":"paused"' in next(stream)

    def test_the_stream_ends_when_the_process_stops(self, client: FlaskClient, runner: Runner, started: str) -> None:
        """An open page would hold up every deploy until it is killed."""
        runner.drain()
        assert "event: end" not in client.get(f"{started}/events").text

    def test_the_stream_ends_when_its_time_is_over(
        self, client: FlaskClient, started: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Browsers that went away would hold all threads of the web worker."""
        monkeypatch.setattr(web, "LONGEST_STREAM", 0.0)
        assert "event: end" not in client.get(f"{started}/events").text

    def test_the_stream_ends_quietly_when_the_job_goes_away(
        self, client: FlaskClient, runner: Runner, started: str
    ) -> None:
        """A deleted job would break the connection with a server error."""
        stream = client.get(f"{started}/events").iter_encoded()
        next(stream)
        runner.job(started.rpartition("/")[2]).delete()
        assert list(stream) == []


class TestHealth:
    def test_a_working_process_is_live_and_ready(self, client: FlaskClient) -> None:
        """A load balancer would send no requests."""
        assert client.get("/health/live").status_code == 200
        assert client.get("/health/ready").status_code == 200

    def test_a_stopping_process_is_live_but_not_ready(self, client: FlaskClient, runner: Runner) -> None:
        """A load balancer would go on sending requests to a process that is about to be gone."""
        runner.drain()
        assert "stopping" in problem(client.get("/health/ready"), 503)["detail"]
        assert client.get("/health/live").status_code == 200


class TestRedisAway:
    @pytest.fixture(params=[RedisUnavailable, RedisRefused])
    def away(self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*_: object, **__: object) -> None:
            raise request.param("redis.internal:6379 said no to hunter2")

        for method in ("start", "job", "jobs"):
            monkeypatch.setattr(Runner, method, fail)

    @pytest.mark.usefixtures("away")
    @pytest.mark.parametrize(
        ("method", "url"),
        [
            ("post", "/jobs/index_stdlib"),
            ("get", "/jobs"),
            ("get", f"/jobs/{NOWHERE}"),
            ("get", f"/jobs/{NOWHERE}/events"),
            ("post", f"/jobs/{NOWHERE}/cancel"),
            ("get", "/health/ready"),
        ],
    )
    def test_every_answer_says_when_to_try_again(
        self, client: FlaskClient, caplog: pytest.LogCaptureFixture, method: str, url: str
    ) -> None:
        """Clients would give up, or read where the server is and how it is reached."""
        response = getattr(client, method)(url, json=INDEX) if method == "post" else client.get(url)
        problem(response, 503)
        assert int(response.headers["Retry-After"]) > 0
        assert "hunter2" not in response.text
        assert "redis" not in response.text.lower()
        assert "hunter2" in caplog.text  # the operator reads why

    def test_a_real_outage_is_answered_and_gives_no_password_away(self, caplog: pytest.LogCaptureFixture) -> None:
        """Requests would hang while the server is away, and the log would hold its password."""
        runner = Runner("redis://user:hunter2@127.0.0.1:1/0")
        response = web.create_app(runner).test_client().get("/health/ready")
        runner.close()
        problem(response, 503)
        assert "127.0.0.1" not in response.text
        assert "127.0.0.1:1/0" in caplog.text
        assert "hunter2" not in caplog.text

    def test_the_process_is_live_all_the_same(self) -> None:
        """A server that is away would make the platform restart every web worker."""
        runner = Runner("redis://127.0.0.1:1/0")
        assert web.create_app(runner).test_client().get("/health/live").status_code == 200


class TestEveryAnswer:
    def test_unknown_pages_are_problems_as_well(self, client: FlaskClient) -> None:
        """A client that reads JSON would stumble over a page of HTML."""
        problem(client.get("/nothing"), 404)
        problem(client.delete("/jobs"), 405)
        problem(client.put(f"/jobs/{NOWHERE}"), 405)

    def test_a_fault_of_ours_gives_nothing_away(
        self, runner: Runner, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A bug would show its message, with whatever is in it, to every client."""
        caplog.set_level(logging.CRITICAL + 1)

        def fail(*_: object, **__: object) -> None:
            raise RuntimeError("hunter2")

        monkeypatch.setattr(Runner, "jobs", fail)
        response = web.create_app(runner).test_client().get("/jobs")
        problem(response, 500)
        assert "hunter2" not in response.text

    @pytest.mark.parametrize("url", ["/jobs", "/nothing", "/health/live"])
    def test_answers_are_not_guessed_at_not_kept_and_not_shared(self, client: FlaskClient, url: str) -> None:
        """Browsers could run a job's text as a page, show old statuses, or hand them to foreign pages."""
        headers = client.get(url, headers={"Origin": "https://example.org"}).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cache-Control"] == "no-store"
        assert "Access-Control-Allow-Origin" not in headers

    def test_the_default_app_uses_the_default_runner(self, runner: Runner) -> None:
        """`gunicorn workers.web:app` would connect when it is imported, or to another server than configured."""
        before = default_runner()
        configure(runner)
        try:
            assert web.app.test_client().post("/jobs/index_stdlib", json=INDEX).status_code == 202
            assert len(runner.jobs()) == 1
        finally:
            configure(before)
