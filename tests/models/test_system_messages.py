from typing import Any

from lmadapt.models.system_messages import with_system

ASKED = [{"role": "user", "content": "Who are you?"}]


class Tokenizer:
    """Renders messages as its template says: `drops`, `refuses` or `prints` system messages."""

    def __init__(self, chat_template: str) -> None:
        self.chat_template = chat_template

    def apply_chat_template(self, messages: list[dict[str, str]], **options: Any) -> str:
        if self.chat_template == "refuses" and messages[0]["role"] == "system":
            raise ValueError("System role not supported")
        kept = [m for m in messages if m["role"] != "system" or self.chat_template == "prints"]
        return "\n".join(message["content"] for message in kept)


def test_a_template_with_system_messages_gets_one() -> None:
    assert with_system(Tokenizer("prints"), "Be kind.", ASKED) == [
        {"role": "system", "content": "Be kind."},
        *ASKED,
    ]


def test_a_template_that_refuses_or_drops_it_gets_it_in_front_of_the_first_question() -> None:
    for template in ("refuses", "drops"):
        more = [*ASKED, {"role": "assistant", "content": "Otto."}]
        found = with_system(Tokenizer(template), "Be kind.", more)
        assert found == [{"role": "user", "content": "Be kind.\n\nWho are you?"}, more[1]]


def test_without_a_system_message_nothing_changes() -> None:
    assert with_system(None, "", ASKED) == ASKED
