"""What the broker answers over HTTP, to good requests and to bad ones."""

import array
import contextlib
import json
import os
import socket

import pytest
from deepseekd import PATIENCE, Connection
from null_daemon import CHAT, NullDaemon, chat, text_of


@pytest.fixture(scope="module")
def daemon():
    with NullDaemon(config={"listen": {"mode": "0666", "max_body": "64KiB"}}) as d:
        d.load("null")
        yield d


def raw(daemon, data):
    """What comes back for bytes that need not be HTTP."""
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(10)
        s.connect(daemon.socket)
        s.sendall(data)
        answer = b""
        with contextlib.suppress(ConnectionResetError):  # it does not read what it refuses
            while part := s.recv(65536):
                answer += part
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


def refused(answer, status=400, param=None, code=None):
    got, body = answer
    assert got == status, body
    assert set(body["error"]) >= {"message", "type", "param", "code"}
    assert body["error"]["message"]
    if param:
        assert body["error"]["param"] == param, body
        assert param in body["error"]["message"]
    if code:
        assert body["error"]["code"] == code, body
    return body["error"]["message"]


def test_healthz_says_ok(daemon):
    assert daemon.get("/healthz") == (200, {"status": "ok"})


def test_models_are_listed_as_openai_does(daemon):
    status, answer = daemon.get("/v1/models")
    assert status == 200 and answer["object"] == "list"
    entry = answer["data"][0]
    assert entry["id"] == "null" and entry["object"] == "model" and entry["owned_by"] == "deepseekd"
    assert entry["state"] == "ready" and entry["aliases"] == [] and isinstance(entry["created"], int)
    assert daemon.get("/v1/models/null") == (200, entry)
    refused(daemon.get("/v1/models/none"), 404, code="model_not_found")


def test_an_answer_has_openais_shape(daemon):
    status, answer = daemon.post(CHAT, chat("tokens=3 reasoning=1", model="null"))
    assert status == 200
    choice = answer["choices"][0]
    assert answer["object"] == "chat.completion" and answer["model"] == "null" and answer["id"].startswith("chatcmpl-")
    assert choice["message"] == {"role": "assistant", "content": "tttt", "reasoning_content": "tt"}
    assert choice["finish_reason"] == "stop" and choice["index"] == 0 and choice["logprobs"] is None
    usage = answer["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (10, 3, 13)
    assert usage["completion_tokens_details"] == {"reasoning_tokens": 1}
    assert (usage["prompt_cache_hit_tokens"], usage["prompt_cache_miss_tokens"]) == (2, 8)


def test_a_stream_has_a_role_first_and_a_reason_last(daemon):
    chunks = list(daemon.stream(CHAT, chat("tokens=3 reasoning=1", stream_options={"include_usage": True})))
    deltas = [c["choices"][0]["delta"] for c in chunks[:-1]]
    assert deltas == [{"role": "assistant", "content": ""}, {"reasoning_content": "tt"}, {"content": "tt"}, {"content": "tt"}, {}]
    assert [c["choices"][0]["finish_reason"] for c in chunks[:-1]] == [None] * 4 + ["stop"]
    assert all(c["usage"] is None and c["object"] == "chat.completion.chunk" for c in chunks[:-1])
    assert chunks[-1]["choices"] == [] and chunks[-1]["usage"]["completion_tokens"] == 3
    assert len({c["id"] for c in chunks}) == 1


def test_a_stream_without_usage_has_no_usage(daemon):
    assert all("usage" not in c and c["choices"] for c in daemon.stream(CHAT, chat("tokens=1")))


def test_a_tool_call_comes_in_pieces_with_its_id_in_the_first(daemon):
    chunks = list(daemon.stream(CHAT, chat("tokens=0 tool=1")))
    calls = [c["choices"][0]["delta"]["tool_calls"][0] for c in chunks if "tool_calls" in c["choices"][0]["delta"]]
    assert calls[0]["id"] and calls[0]["type"] == "function" and calls[0]["function"] == {"name": "lookup", "arguments": ""}
    assert all(set(c) == {"index", "function"} and c["index"] == 0 for c in calls[1:])
    assert json.loads("".join(c["function"]["arguments"] for c in calls)) == {"x": 1}
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"


def test_a_whole_tool_call_has_all_its_arguments(daemon):
    message = daemon.post(CHAT, chat("tokens=0 tool=1"))[1]["choices"][0]["message"]
    assert message["content"] is None
    call = message["tool_calls"][0]
    assert call["type"] == "function" and call["function"] == {"name": "lookup", "arguments": '{"x": 1}'}


def test_logprobs_are_as_openai_writes_them(daemon):
    item = {"token": "t", "logprob": -0.5, "bytes": [116]}
    want = {**item, "top_logprobs": [item]}
    ask = chat("tokens=2 reasoning=1", logprobs=True, top_logprobs=1)
    logprobs = daemon.post(CHAT, ask)[1]["choices"][0]["logprobs"]
    assert logprobs == {"content": [want], "reasoning_content": [want]}
    chunks = [c["choices"][0] for c in daemon.stream(CHAT, ask)]
    assert chunks[1]["logprobs"] == {"reasoning_content": [want]} and chunks[2]["logprobs"] == {"content": [want]}
    answer = daemon.post(CHAT, chat("tokens=1 nul=1", logprobs=True))[1]["choices"][0]
    assert answer["message"]["content"] == "\0t"
    assert answer["logprobs"]["content"] == [{"token": "\0", "logprob": -0.5, "bytes": [0], "top_logprobs": []}]


def test_a_completion_has_the_legacy_shape(daemon):
    for prompt in ("tokens=2", ["tokens=2"]):
        status, answer = daemon.post("/v1/completions", {"prompt": prompt, "logprobs": 1})
        assert status == 200 and answer["object"] == "text_completion" and answer["id"].startswith("cmpl-")
        choice = answer["choices"][0]
        assert choice["text"] == "tttt" and choice["finish_reason"] == "stop"
        assert choice["logprobs"] == {"tokens": ["t", "t"], "token_logprobs": [-0.5, -0.5],
                                      "top_logprobs": [{"t": -0.5}, {"t": -0.5}], "text_offset": [0, 1]}
    assert daemon.post("/v1/completions", {"prompt": [1, 2, 3]})[1]["choices"][0]["text"] == "t" * 16
    assert daemon.post("/v1/completions", {"prompt": [[1, 2, 3]]})[0] == 200
    chunks = list(daemon.stream("/v1/completions", {"prompt": "tokens=2"}))
    assert all(c["object"] == "text_completion" for c in chunks)
    assert "".join(c["choices"][0]["text"] for c in chunks) == "tttt"


def test_max_tokens_goes_to_the_engine_under_both_names(daemon):
    for name in ("max_tokens", "max_completion_tokens"):
        assert daemon.post(CHAT, chat("tokens=9", **{name: 2}))[1]["usage"]["completion_tokens"] == 2


def test_fields_that_do_not_change_the_answer_are_ignored(daemon):
    more = {"user": "me", "metadata": {"a": 1}, "store": False, "n": 1, "logit_bias": {}, "service_tier": "auto", "seed": 3,
            "parallel_tool_calls": True, "response_format": {"type": "text"}, "unheard_of": [1], "temperature": None, "top_k": 3,
            "tool_choice": "auto", "thinking": {"type": "enabled"}, "stop": None, "reasoning_effort": "xhigh",
            "chat_template_kwargs": {"enable_thinking": False, "greeting": 1}}
    assert daemon.post(CHAT, chat("tokens=1", **more))[0] == 200


def test_text_parts_are_joined_and_every_role_is_known(daemon):
    messages = [{"role": "developer", "content": "a"}, {"role": "system", "content": "b"}, {"role": "user", "content": "c"},
                {"role": "assistant", "content": None, "reasoning_content": "r",
                 "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
                {"role": "tool", "tool_call_id": "1", "content": "d"},
                {"role": "user", "content": [{"type": "text", "text": "tokens"}, {"type": "text", "text": "=3"}]}]
    status, answer = daemon.post(CHAT, {"messages": messages})
    assert status == 200 and answer["usage"]["completion_tokens"] == 3


USER = {"role": "user", "content": "x"}
BAD_FIELDS = [
    ("messages", {"messages": None}), ("messages", {"messages": []}), ("messages", {"messages": "x"}),
    ("messages[0]", {"messages": ["x"]}), ("messages[1]", {"messages": [USER, {"role": "wizard", "content": "x"}]}),
    ("messages[0]", {"messages": [{"role": "user"}]}), ("messages[0]", {"messages": [{"role": "user", "content": 3}]}),
    ("messages[0]", {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}),
    ("messages[0]", {"messages": [{"role": "tool", "content": "x"}]}),
    ("messages[0]", {"messages": [{"role": "assistant", "content": "x", "tool_calls": [{"id": 1}]}]}),
    ("messages[0]", {"messages": [{"role": "assistant", "content": "x", "prefix": True}]}),
    ("model", {"model": 3}), ("stream", {"stream": "yes"}), ("stream_options", {"stream_options": {"include_usage": True}}),
    ("stream_options", {"stream": True, "stream_options": 1}),
    ("stream_options.include_usage", {"stream": True, "stream_options": {"include_usage": 1}}),
    ("max_tokens", {"max_tokens": 0}), ("max_tokens", {"max_tokens": -1}), ("max_tokens", {"max_tokens": 1.5}),
    ("max_tokens", {"max_tokens": "9"}), ("max_completion_tokens", {"max_completion_tokens": 0}),
    ("temperature", {"temperature": 2.1}), ("temperature", {"temperature": -0.1}), ("temperature", {"temperature": "hot"}),
    ("temperature", {"temperature": True}), ("top_p", {"top_p": 0}), ("top_p", {"top_p": 1.01}),
    ("presence_penalty", {"presence_penalty": 3}), ("frequency_penalty", {"frequency_penalty": -3}), ("seed", {"seed": 1.5}),
    ("top_k", {"top_k": 1001}), ("top_k", {"top_k": 0.5}),
    ("stop", {"stop": ""}), ("stop", {"stop": ["a", ""]}), ("stop", {"stop": ["a"] * 17}), ("stop", {"stop": 3}),
    ("n", {"n": 2}), ("n", {"n": 0}), ("logit_bias", {"logit_bias": {"1": 5}}), ("functions", {"functions": [{"name": "f"}]}),
    ("logprobs", {"logprobs": 1}), ("top_logprobs", {"top_logprobs": 2}), ("top_logprobs", {"logprobs": True, "top_logprobs": 21}),
    ("tools", {"tools": {}}), ("tools[0]", {"tools": [{"type": "retrieval"}]}), ("tools[0]", {"tools": [{"type": "function"}]}),
    ("tools[0]", {"tools": [{"type": "function", "function": {"name": "f", "parameters": []}}]}),
    ("tool_choice", {"tool_choice": "required"}), ("tool_choice", {"tool_choice": {"type": "function"}}),
    ("response_format", {"response_format": {"type": "json_object"}}), ("response_format", {"response_format": "text"}),
    ("modalities", {"modalities": ["text", "audio"]}), ("thinking", {"thinking": {"type": "adaptive"}}),
    ("thinking", {"thinking": True}), ("chat_template_kwargs", {"chat_template_kwargs": 1}),
    ("chat_template_kwargs", {"chat_template_kwargs": {"thinking": "yes"}}), ("reasoning_effort", {"reasoning_effort": "much"}),
]


@pytest.mark.parametrize("param,fields", BAD_FIELDS, ids=[json.dumps(f)[:60] for _, f in BAD_FIELDS])
def test_a_bad_field_is_named(daemon, param, fields):
    refused(daemon.post(CHAT, {**chat("tokens=1"), **fields}), 400, param, "invalid_request")


BAD_COMPLETIONS = [
    ("prompt", {}), ("prompt", {"prompt": []}), ("prompt", {"prompt": ["a", "b"]}), ("prompt", {"prompt": [[1], [2]]}),
    ("prompt", {"prompt": [1, "a"]}), ("prompt", {"prompt": [-1]}), ("prompt", {"prompt": 7}), ("prompt", {"prompt": [[]]}),
    ("suffix", {"prompt": "a", "suffix": "b"}), ("best_of", {"prompt": "a", "best_of": 2}), ("echo", {"prompt": "a", "echo": 1}),
    ("logprobs", {"prompt": "a", "logprobs": 21}), ("logprobs", {"prompt": "a", "logprobs": True}),
]


@pytest.mark.parametrize("param,body", BAD_COMPLETIONS, ids=[json.dumps(b) for _, b in BAD_COMPLETIONS])
def test_a_bad_completion_is_named(daemon, param, body):
    refused(daemon.post("/v1/completions", body), 400, param, "invalid_request")


@pytest.mark.parametrize("body", [b"{", b"[]", b"\"x\"", b"{\"model\": \"\xff\"}", b"{\"a\": 1, \"a\": 2}", b"{} x", b"", b"\xef\xbb\xbf{}",
                                  b"{\"a\": \"\\ud800\"}", b"[" * 5000], ids=repr)
def test_a_body_that_is_no_json_object_is_refused(daemon, body):
    refused(daemon.post(CHAT, body), 400, code="invalid_json")


def test_an_unknown_model_is_not_found(daemon):
    refused(daemon.post(CHAT, chat("x", model="gpt-4")), 404, "model", "model_not_found")


def test_what_the_engine_refuses_has_its_param_and_numbers(daemon):
    refused(daemon.post(CHAT, chat("fail=1")), 400, code="invalid_request")
    status, body = daemon.post(CHAT, chat("long=1"))
    error = body["error"]
    assert status == 400 and error["code"] == "context_length_exceeded" and error["type"] == "invalid_request_error"
    assert (error["n_prompt_tokens"], error["n_ctx"]) == (99, 64)
    assert "exceeds the available context size" in error["message"] and "99" in error["message"] and "64" in error["message"]
    assert daemon.post(CHAT, chat("long=1", stream=True))[0] == 400


def test_an_unknown_path_and_a_wrong_method_are_told_in_json(daemon):
    refused(daemon.get("/v2/nothing"), 404, code="not_found")
    refused(daemon.get(CHAT), 405, code="method_not_allowed")
    refused(daemon.request("DELETE", "/healthz"), 405)
    refused(daemon.request("POST", "/v1/models", {}), 405)
    refused(daemon.request("PUT", "/admin/v1/status", {}), 405)


def test_what_is_no_http_is_told_in_json(daemon):
    refused(raw(daemon, b"BREW /healthz HTTP/1.1\r\nConnection: close\r\n\r\n"), 405)
    refused(raw(daemon, b"GET\r\n\r\n"), 400)
    refused(raw(daemon, b"GET /healthz HTTP/1.1\r\nno colon\r\n\r\n"), 400)
    refused(raw(daemon, b"GET /healthz HTTP/1.1\r\nX: " + b"a" * 70000 + b"\r\n\r\n"), 400)


def everything(daemon, data):
    """All bytes that come until the daemon closes."""
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(PATIENCE)
        s.connect(daemon.socket)
        s.sendall(data)
        answer = b""
        while part := s.recv(65536):
            answer += part
    return answer


def test_what_is_no_http_is_told_in_json_after_a_request_as_well(daemon):
    answer = everything(daemon, b"GET /healthz HTTP/1.1\r\n\r\nabc\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200") and b"<HTML>" not in answer
    head, _, body = answer[answer.index(b"HTTP/1.1 400"):].partition(b"\r\n\r\n")
    assert json.loads(body)["error"]["code"] == "invalid_request"


@pytest.mark.parametrize("method", ["BREW", "TRACE", "HEAD"])
def test_the_body_of_a_method_that_has_none_is_no_request(daemon, method):
    smuggled = b"GET /healthz HTTP/1.1\r\n\r\n"
    answer = everything(daemon, b"%s /healthz HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % (method.encode(), len(smuggled)) + smuggled)
    assert answer.startswith(b"HTTP/1.1 405") and answer.count(b"HTTP/1.1 ") == 1


def test_a_connection_is_either_kept_or_closed(daemon):
    answer = everything(daemon, b"BREW /healthz HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    assert answer.count(b"Connection: ") == 1 and b"Connection: close" in answer


def test_a_body_that_is_too_large_is_told_in_json(daemon):
    refused(daemon.post(CHAT, b" " * 65537), 413, code="request_too_large")
    assert daemon.post(CHAT, json.dumps(chat("tokens=1")).encode().ljust(65536))[0] == 200
    chunk = b"8000\r\n" + b" " * 0x8000 + b"\r\n"
    refused(raw(daemon, b"POST /v1/chat/completions HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk * 3), 413)


def test_a_head_request_gets_no_body(daemon):
    with contextlib.closing(Connection(daemon.socket)) as connection:
        connection.request("HEAD", "/healthz")
        response = connection.getresponse()
        assert response.status == 405
        assert connection.sock is None or connection.sock.recv(1) == b""


def test_a_connect_request_is_refused_and_the_connection_goes_on(daemon):
    with contextlib.closing(Connection(daemon.socket)) as connection:
        connection.request("CONNECT", "/healthz")
        response = connection.getresponse()
        assert response.status in (404, 405) and response.getheader("Content-Length") == "0" and response.read() == b""
        connection.request("GET", "/healthz")
        assert connection.getresponse().status == 200


def test_an_expected_continue_is_given(daemon):
    body = json.dumps(chat("tokens=1")).encode()
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(daemon.socket)
        s.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(body))
        assert s.recv(1000).startswith(b"HTTP/1.1 100")
        s.sendall(body)
        assert s.recv(1000).startswith(b"HTTP/1.1 200")


def test_a_connection_serves_one_request_after_the_other(daemon):
    connection, response = daemon.open("GET", "/healthz")
    ids = {response.getheader("x-request-id")}
    response.read()
    for _ in range(3):
        connection.request("POST", CHAT, json.dumps(chat("tokens=2", stream=True)))
        response = connection.getresponse()
        ids.add(response.getheader("x-request-id"))
        assert response.read().endswith(b"data: [DONE]\n\n")
    connection.request("GET", "/nothing")
    assert connection.getresponse().status == 404
    assert len(ids) == 4 and None not in ids


def test_a_reader_that_shut_down_writing_still_gets_its_answer(daemon):
    body = json.dumps(chat("tokens=2 delay_us=50000")).encode()
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(daemon.socket)
        s.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        s.shutdown(socket.SHUT_WR)
        answer = b""
        while part := s.recv(65536):
            answer += part
    assert b'"tttt"' in answer


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_a_reader_that_shut_down_writing_gets_all_of_a_stream(daemon, version):
    """And what it asked ahead is answered as well."""
    body = json.dumps(chat("tokens=300 size=1000 delay_us=200", stream=True)).encode()
    ask = f"POST {CHAT} HTTP/{version}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(daemon.socket)
        s.sendall(ask if version == "1.0" else ask + b"GET /healthz HTTP/1.1\r\n\r\n" + ask)
        s.shutdown(socket.SHUT_WR)
        answer = b""
        while part := s.recv(65536):
            answer += part
    n = 1 if version == "1.0" else 2
    assert answer.count(b"data: [DONE]") == n and answer.count(b"t" * 1000) == 300 * n
    assert version == "1.0" or b'{"status":"ok"}' in answer


def test_a_stream_to_http_1_0_ends_with_the_connection(daemon):
    """Also to who wants to keep it: there is no other way to tell the end."""
    body = json.dumps(chat("tokens=3", stream=True)).encode()
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(PATIENCE)
        s.connect(daemon.socket)
        s.sendall(f"POST {CHAT} HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        answer = b""
        while part := s.recv(65536):
            answer += part
    head, _, stream = answer.partition(b"\r\n\r\n")
    assert b"Content-Length" not in head and b"keep-alive" not in head and stream.endswith(b"data: [DONE]\n\n")


def test_text_that_is_not_utf8_ends_the_answer(daemon):
    refused(daemon.post(CHAT, chat("bad_utf8=1")), 500, code="internal")
    connection, response = daemon.open("POST", CHAT, chat("bad_utf8=1", stream=True))
    last = response.read().strip().split(b"\n\n")[-1]
    assert json.loads(last[6:])["error"]["code"] == "internal"


def test_logits_come_as_floats_in_order(daemon):
    connection, response = daemon.open("POST", "/admin/v1/models/null/evaluate", {"tokens": list(range(5000)), "greedy": 3})
    assert response.getheader("Deepseekd-Rows") == "5002" and response.getheader("Deepseekd-Vocab") == "16"
    assert response.getheader("Content-Type") == "application/octet-stream"
    got = array.array("f", response.read())
    assert got == array.array("f", range(5002 * 16))


@pytest.mark.parametrize("body", [{}, {"tokens": []}, {"tokens": "x"}, {"tokens": [1.5]}, {"tokens": [-1]},
                                  {"tokens": [1], "chunks": [0]}, {"tokens": [1], "greedy": -1}, {"tokens": [1], "mtp": 1}], ids=str)
def test_a_bad_evaluation_is_refused(daemon, body):
    refused(daemon.post("/admin/v1/models/null/evaluate", body), 400, code="invalid_request")


def test_plugins_are_listed(daemon):
    status, answer = daemon.get("/admin/v1/plugins")
    assert status == 200 and answer["plugins"][0]["name"] == "null-sampler"


def test_status_has_everything(daemon):
    status = daemon.status()
    assert set(status) == {"version", "pid", "state", "started_usec", "default_model", "requests", "memory", "models"}
    assert status["state"] == "running" and status["pid"] == daemon.process.pid
    assert set(status["models"][0]) == {
        "name", "aliases", "path", "state", "reason", "warning", "capabilities", "progress", "context", "context_limit",
        "vocab", "architecture", "dialect", "parameters",
        "image_size", "mapped_size", "loads", "engine_starts", "engine_pid", "kv_tokens", "kv_tokens_used", "running",
        "waiting", "tokens", "engine_deaths"}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_may_ask_but_not_manage(daemon):
    os.chmod(daemon.folder, 0o755)
    os.chmod(daemon.folder / "run", 0o755)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
        answers = [daemon.post(CHAT, chat("tokens=1"))[0], daemon.get("/admin/v1/status"), daemon.get("/healthz")[0],
                   daemon.post("/admin/v1/models/null/unload")[0], daemon.get("/admin/v1/plugins")[0],
                   daemon.post("/admin/v1/models/null/evaluate", {"tokens": [1]})[0]]
        os.write(writer, json.dumps(answers).encode())
        os._exit(0)
    os.close(writer)
    chatted, (status, body), health, *others = json.loads(os.read(reader, 65536))
    os.close(reader)
    os.waitpid(child, 0)
    assert (chatted, health) == (200, 200) and others == [403, 403, 403]
    assert "65534" in refused((status, body), 403, code="permission_denied")


def test_text_of_a_stream_is_the_text_of_the_whole(daemon):
    ask = chat("tokens=500 size=40")
    assert text_of(daemon.stream(CHAT, ask)) == daemon.post(CHAT, ask)[1]["choices"][0]["message"]["content"] == "t" * 20000
