"""Programs of one's own: curl and the client libraries. Each set-up is a whole program. Pure."""

from __future__ import annotations

import json
import shlex

from stack.clients.setup import KEY_VARIABLE, QUESTION, Endpoint, Setup, lines


def curl(to: Endpoint) -> Setup:
    """One request; the same that `up` prints."""
    body: dict[str, object] = {"model": to.model, "temperature": 0, "messages": [{"role": "user", "content": QUESTION}]}
    path = "/v1/chat/completions"
    if to.embeds:
        path, body = "/v1/embeddings", {"model": to.model, "input": QUESTION}
    header = f'"Authorization: Bearer {to.key.text}"'
    if to.key.literal is not None:
        header = shlex.quote(f"Authorization: Bearer {to.key.literal}")
    text = f"curl {to.url}{path} -H {header} \\\n  -H 'Content-Type: application/json' -d {shlex.quote(json.dumps(body))}\n"
    return Setup(text, command=text.rstrip("\n"))


def openai_python(to: Endpoint) -> Setup:
    """Package openai."""
    ask: tuple[str, ...] = (
        f"answer = client.embeddings.create(model={json.dumps(to.model)}, input={json.dumps(QUESTION)})",
        "print(answer.data[0].embedding[:5])",
    )
    if not to.embeds:
        ask = (
            "answer = client.chat.completions.create(",
            f"    model={json.dumps(to.model)},",
            f'    messages=[{{"role": "user", "content": {json.dumps(QUESTION)}}}],',
            ")",
            "print(answer.choices[0].message.content)",
        )
    text = _python(
        to,
        "from openai import OpenAI",
        f"client = OpenAI(base_url={json.dumps(to.openai)}, api_key={_python_key(to)})",
        *ask,
    )
    return Setup(text, "python ask.py", paste="save it as ask.py; it needs: pip install openai")


def openai_node(to: Endpoint) -> Setup:
    """Package openai."""
    key = json.dumps(to.key.literal) if to.key.literal is not None else f"process.env.{KEY_VARIABLE}"
    ask: tuple[str, ...] = (
        "const answer = await client.embeddings.create({",
        f"  model: {json.dumps(to.model)},",
        f"  input: {json.dumps(QUESTION)},",
        "});",
        "console.log(answer.data[0].embedding.slice(0, 5));",
    )
    if not to.embeds:
        ask = (
            "const answer = await client.chat.completions.create({",
            f"  model: {json.dumps(to.model)},",
            f'  messages: [{{ role: "user", content: {json.dumps(QUESTION)} }}],',
            "});",
            "console.log(answer.choices[0].message.content);",
        )
    text = lines(
        'import OpenAI from "openai";',
        "",
        f"const client = new OpenAI({{ baseURL: {json.dumps(to.openai)}, apiKey: {key} }});",
        *ask,
    )
    return Setup(text, "node ask.mjs", paste="save it as ask.mjs; it needs: npm install openai")


def anthropic_python(to: Endpoint) -> Setup:
    """Package anthropic. auth_token rather than api_key: given so, no key of the environment is sent instead."""
    text = _python(
        to,
        "from anthropic import Anthropic",
        f"client = Anthropic(base_url={json.dumps(to.url)}, auth_token={_python_key(to)})",
        "answer = client.messages.create(",
        f"    model={json.dumps(to.model)},",
        f"    max_tokens={min(to.max_output or 1024, 1024)},",
        f'    messages=[{{"role": "user", "content": {json.dumps(QUESTION)}}}],',
        ")",
        'print("".join(block.text for block in answer.content if block.type == "text"))',
    )
    return Setup(text, "python ask.py", paste="save it as ask.py; it needs: pip install anthropic")


def langchain(to: Endpoint) -> Setup:
    """Package langchain-openai."""
    name = "OpenAIEmbeddings" if to.embeds else "ChatOpenAI"
    options = [f"base_url={json.dumps(to.openai)}", f"api_key={_python_key(to)}", f"model={json.dumps(to.model)}"]
    ask = f"print(model.invoke({json.dumps(QUESTION)}).content)"
    if to.embeds:
        # Otherwise it sends numbers of tokens, and they are those of OpenAI's models.
        options.append("check_embedding_ctx_length=False")
        ask = f"print(model.embed_query({json.dumps(QUESTION)})[:5])"
    made = ("model = " + name + "(", *(f"    {option}," for option in options), ")")
    text = _python(to, f"from langchain_openai import {name}", *made, ask)
    return Setup(text, "python ask.py", paste="save it as ask.py; it needs: pip install langchain-openai")


def _python(to: Endpoint, imported: str, *rest: str) -> str:
    head = ("import os", "", imported) if to.key.literal is None else (imported,)
    return lines(*head, "", *rest)


def _python_key(to: Endpoint) -> str:
    return json.dumps(to.key.literal) if to.key.literal is not None else f'os.environ["{KEY_VARIABLE}"]'
