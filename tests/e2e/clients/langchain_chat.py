"""What LangChain gets from the stack; test_clients.py runs it in LangChain's own environment and reads the JSON."""

from __future__ import annotations

import json
import os
from typing import Literal

from langchain_openai import ChatOpenAI  # type: ignore[import-not-found]
from pydantic import BaseModel

REPEAT = "Repeat: The code is blue-whale-4711."


class Visit(BaseModel):
    """Visit a city."""

    city: Literal["Paris"]


chat = ChatOpenAI(model=os.environ["MODEL"], max_retries=0)
forced = chat.bind_tools([Visit], tool_choice="Visit", strict=True)
found = {
    "answer": chat.invoke(REPEAT).content,
    "streamed": "".join(str(chunk.content) for chunk in chat.stream(REPEAT)),
    "tool": forced.invoke("Visit Paris.").tool_calls[0]["args"],
    "structured": chat.with_structured_output(Visit, method="json_schema").invoke("Which city?").model_dump(),
}
print(json.dumps(found))
