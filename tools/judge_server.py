#!/usr/bin/env python3
"""Judges of chat_llama serve: the client of PyPI's openai, load, hostile clients.

  tools/judge_server.py speed --model MODEL          starts and ends a server of its own
  tools/judge_server.py openai load memory hostile --url http://127.0.0.1:8000 --pid PID

`openai` needs `pip install openai`. Each judge prints what it found; the exit code is 1 where one
failed.
"""
import argparse
import concurrent.futures
import json
import random
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

failures = []


def check(what, holds, found=""):
    print(("ok    " if holds else "FAIL  ") + what, found, flush=True)
    if not holds:
        failures.append(what)


def post(url, path, body, timeout=600):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(url + path, data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=timeout) as reply:
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def metric(url, name):
    with urllib.request.urlopen(url + "/metrics") as reply:
        for line in reply.read().decode().splitlines():
            if line.startswith("mullion_" + name + " "):
                return float(line.split()[1])
    raise KeyError(name)


def resident_mib(pid):
    with open(f"/proc/{pid}/status") as status:
        for line in status:
            if line.startswith("VmRSS"):
                return int(line.split()[1]) / 1024
    return 0


def judge_openai(args):
    import openai
    client = openai.OpenAI(base_url=args.url + "/v1", api_key="none", max_retries=0)
    model = client.models.list().data[0].id
    check("models.list", bool(model), model)
    prompt = "The capital of France is"
    one = client.completions.create(model=model, prompt=prompt, max_tokens=8, temperature=0)
    check("completions", len(one.choices[0].text) > 0 and one.usage.completion_tokens == 8,
          repr(one.choices[0].text))
    two = client.completions.create(model=model, prompt=[prompt, "Once upon a time"], n=2,
                                    max_tokens=8, temperature=0)
    check("completions of a list, n 2", [c.index for c in two.choices] == [0, 1, 2, 3] and
          two.choices[0].text == two.choices[1].text == one.choices[0].text)
    stream = client.completions.create(model=model, prompt=prompt, max_tokens=8, temperature=0,
                                       stream=True)
    check("completions stream", "".join(c.choices[0].text for c in stream) == one.choices[0].text)
    echo = client.completions.create(model=model, prompt=prompt, max_tokens=1, temperature=0,
                                     logprobs=3, echo=True)
    lists = echo.choices[0].logprobs
    check("echo and logprobs", lists.token_logprobs[0] is None and
          len(lists.tokens) == one.usage.prompt_tokens + 1 and len(lists.top_logprobs[2]) >= 3)
    messages = [{"role": "system", "content": "Answer in one word."},
                {"role": "user", "content": "Which planet do we live on?"}]
    chat = client.chat.completions.create(model=model, messages=messages, max_tokens=16,
                                          temperature=0, logprobs=True, top_logprobs=2)
    text = chat.choices[0].message.content
    check("chat", chat.choices[0].message.role == "assistant" and
          len(chat.choices[0].logprobs.content[0].top_logprobs) == 2, repr(text))
    stream = client.chat.completions.create(model=model, messages=messages, max_tokens=16,
                                            temperature=0, stream=True,
                                            stream_options={"include_usage": True})
    said, usage = "", None
    for chunk in stream:
        usage = chunk.usage or usage
        said += "".join(c.delta.content or "" for c in chunk.choices)
    check("chat stream", said == text and usage.completion_tokens == chat.usage.completion_tokens)
    a, b = (client.chat.completions.create(model=model, messages=messages, max_tokens=16, seed=5)
            .choices[0].message.content for _ in range(2))
    check("seed", a == b, repr(a))
    for what, kind, call in (
            ("temperature 9", openai.BadRequestError,
             lambda: client.completions.create(model=model, prompt="a", temperature=9)),
            ("tools", openai.BadRequestError,
             lambda: client.chat.completions.create(
                 model=model, messages=messages,
                 tools=[{"type": "function", "function": {"name": "f"}}])),
            ("a prompt that is too long", openai.BadRequestError,
             lambda: client.completions.create(model=model, prompt=[1] * 1000000)),
            ("no such path", openai.NotFoundError,
             lambda: client.embeddings.create(model=model, input="a"))):
        try:
            call()
            check("refused: " + what, False)
        except kind as error:
            check("refused: " + what, True, error.message[:110])
    strict = openai.OpenAI(base_url=args.url + "/v1", api_key="none",
                           _strict_response_validation=True)
    strict.models.list()
    strict.completions.create(model=model, prompt=prompt, max_tokens=2)
    strict.chat.completions.create(model=model, messages=messages, max_tokens=2)
    for chunk in strict.chat.completions.create(model=model, messages=messages, max_tokens=2,
                                                stream=True):
        pass
    check("strict mode: models, completions, chat, chat stream", True)
    with client.chat.completions.create(model=model, messages=messages, max_tokens=2000,
                                        stream=True) as stream:
        next(iter(stream))
    for _ in range(200):
        if metric(args.url, "requests_running") == 0:
            break
        time.sleep(0.05)
    check("a client that leaves frees its slot", metric(args.url, "requests_running") == 0)


WORDS = "river stone light paper window garden music number winter animal story city".split()


def mixed(count, seed):
    """Requests of several kinds, the same for the same seed."""
    draw = random.Random(seed)
    requests = []
    for i in range(count):
        text = " ".join(draw.choice(WORDS) for _ in range(draw.choice([2, 5, 20, 80])))
        how = {"max_tokens": draw.choice([1, 4, 8, 16]), "seed": draw.randrange(1000),
               "temperature": draw.choice([0, 0, 0.7, 1])}
        if i % 2:
            body = {"messages": [{"role": "user", "content": "Tell me of " + text}]}
            requests.append(("/v1/chat/completions", body | how))
        else:
            requests.append(("/v1/completions", {"prompt": text} | how))
    return requests


def text_of(reply):
    choice = reply["choices"][0]
    return choice["message"]["content"] if "message" in choice else choice["text"]


def judge_load(args):
    requests = mixed(args.clients * args.requests, 1)
    begin = time.time()

    def client(number):
        found = []
        for path, body in requests[number::args.clients]:
            while True:
                status, reply = post(args.url, path, body)
                if status != 503:
                    break
                time.sleep(0.2)
            found.append((status, text_of(reply) if status == 200 else reply))
        return found

    with concurrent.futures.ThreadPoolExecutor(args.clients) as pool:
        answers = list(pool.map(client, range(args.clients)))
    together = {}
    for number, found in enumerate(answers):
        for place, answer in enumerate(found):
            together[number + place * args.clients] = answer
    seconds = time.time() - begin
    lost = sum(1 for status, _ in together.values() if status != 200)
    check(f"{len(requests)} requests of {args.clients} clients: none lost", lost == 0,
          f"{lost} lost, {seconds:.0f} s")
    alone = range(0, len(requests), max(1, len(requests) // args.alone))
    differ = [i for i in alone
              if text_of(post(args.url, *requests[i])[1]) != together[i][1]]
    check(f"{len(alone)} of them say the same alone", not differ, f"{len(differ)} differ {differ[:9]}")


def judge_memory(args):
    before = resident_mib(args.pid)
    marks = []
    for part in range(5):
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda r: post(args.url, *r), mixed(200, part)))
        marks.append(resident_mib(args.pid))
    print("      resident MiB before, and after each 200 requests:", round(before, 1),
          [round(m, 1) for m in marks])
    check("memory is flat over 1,000 requests", marks[-1] - marks[0] < 0.02 * marks[0] + 8)


def judge_speed(args):
    """Tokens a second of N answers at once, greedy and drawn; N up to --parallel of the server."""
    print("      | answers at once | greedy, tokens/s | times 1 | drawn, tokens/s | times 1 |")
    print("      |---|---|---|---|---|")
    first = {}
    for at_once in (1, 4, 8):
        cells = []
        for temperature in (0, 1):
            rate = rate_of(args, at_once, temperature)
            first.setdefault(temperature, rate)
            cells += [f"{rate:.1f}", f"{rate / first[temperature]:.2f}"]
        print("      |", at_once, "|", " | ".join(cells), "|", flush=True)


def rate_of(args, at_once, temperature):
    """The best of three rounds, after one that is not timed."""
    bodies = [{"prompt": f"Chapter {i}. It was", "max_tokens": 64, "temperature": temperature,
               "seed": i} for i in range(at_once)]
    best = 0
    with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
        for turn in range(4):
            made = metric(args.url, "generated_tokens_total")
            begin = time.time()
            list(pool.map(lambda b: post(args.url, "/v1/completions", b), bodies))
            rate = (metric(args.url, "generated_tokens_total") - made) / (time.time() - begin)
            best = max(best, rate if turn else 0)
    return best


def connect(args):
    host, port = args.url.split("//")[1].split(":")
    return socket.create_connection((host, int(port)), timeout=60)


def judge_hostile(args):
    def alive(what):
        begin = time.time()
        status, _ = post(args.url, "/v1/completions", {"prompt": "a", "max_tokens": 1}, 120)
        check("still answers beside " + what, status == 200, f"{time.time() - begin:.1f} s")

    head = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    slow = [connect(args) for _ in range(50)]
    for s in slow:
        s.sendall(head + b"Content-Length: 1000\r\n\r\n{")
    alive("50 clients that stall in the body")
    half = connect(args)
    half.sendall(head + b"Content-Length: 31\r\n\r\n" + b'{"prompt": "a", "max_tokens": 1}'[:31])
    half.shutdown(socket.SHUT_WR)
    half.recv(100)
    alive("a half-closed one")
    for what, data in (("no HTTP", b"\x16\x03\x01\x00\xff" * 40 + b"\r\n\r\n"),
                       ("a header of 100 kB", head + b"X: " + b"a" * 100000 + b"\r\n\r\n"),
                       ("10,000 headers", head + b"X: a\r\n" * 10000 + b"\r\n"),
                       ("a negative length", head + b"Content-Length: -1\r\n\r\n"),
                       ("a path of 100 kB", b"GET /" + b"a" * 100000 + b" HTTP/1.1\r\n\r\n"),
                       ("a chunk that never ends",
                        head + b"Transfer-Encoding: chunked\r\n\r\nffffffffffff\r\n")):
        s = connect(args)
        try:
            s.sendall(data)
            s.settimeout(3)
            s.recv(100)
        except OSError:
            pass
        s.close()
        alive(what)
    large = b'{"prompt": "' + b"a" * (100 << 20) + b'"}'
    status, reply = post(args.url, "/v1/completions", large)
    check("a body of 100 MB", status == 413, reply["error"]["message"])
    for what, body in (("bad JSON", b'{"prompt": }'), ("bad UTF-8", b'{"prompt": "\xc3\x28"}'),
                       ("100,000 levels", b"[" * 100000), ("an object 100,000 deep",
                                                           b'{"a":' * 100000),
                       ("a key twice", b'{"prompt": "a", "prompt": "b"}')):
        status, reply = post(args.url, "/v1/completions", body)
        check(what, status == 400, reply["error"]["message"][:100])
    many, refused = [], 0
    for _ in range(args.connections):
        try:
            many.append(connect(args))
        except OSError:
            refused += 1
    alive(f"{len(many)} open connections ({refused} not made)")
    for s in many + slow + [half]:
        s.close()
    alive("their end")
    readers = []
    for _ in range(8):  # ask for a stream and never read it
        s = connect(args)
        body = b'{"prompt": "a", "max_tokens": 500, "stream": true}'
        s.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        readers.append(s)
    time.sleep(1)
    for s in readers:
        s.close()
    time.sleep(1)
    check("clients that left hold no slot", metric(args.url, "requests_running") == 0)


def start_server(args):
    server = subprocess.Popen([args.bin + "/chat_llama", "serve", "-m", args.model, "--port", "0",
                               "--parallel", "8"], stdout=subprocess.PIPE, text=True)
    line = server.stdout.readline()  # "listening on http://127.0.0.1:40123"
    if "listening on " not in line:
        sys.exit("the server did not start")
    args.url, args.pid = line.split("listening on ")[1].strip(), server.pid
    return server


def main():
    judges = {name[6:]: judge for name, judge in globals().items() if name.startswith("judge_")}
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("judges", nargs="+", choices=judges)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--pid", type=int, help="of the server, for memory")
    parser.add_argument("--model", help="start a server of it, 8 answers at once, and end it")
    parser.add_argument("--bin", default="build/bin", help="folder of chat_llama")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--requests", type=int, default=20, help="of each client")
    parser.add_argument("--alone", type=int, default=200, help="that are asked again alone")
    parser.add_argument("--connections", type=int, default=10000)
    args = parser.parse_args()
    server = start_server(args) if args.model else None
    if "memory" in args.judges and not args.pid:
        parser.error("memory needs --pid or --model")
    try:
        for name in args.judges:
            print(name, flush=True)
            judges[name](args)
    finally:
        if server:
            server.terminate()
            server.wait(60)
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
