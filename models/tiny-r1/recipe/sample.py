"""One conversation with the answer it should get."""

from dataclasses import dataclass, field

# A string that the model has to invent (a reversed word, a JSON value) is taught letter
# by letter, between these marks: so it never has to guess how the tokenizer would split it.
LETTERS_BEGIN, LETTERS_END = "\x01", "\x02"


def letters(text):
    return LETTERS_BEGIN + text + LETTERS_END


def plain(text):
    return text.replace(LETTERS_BEGIN, "").replace(LETTERS_END, "")


@dataclass
class Sample:
    family: str
    question: str			# the last user message
    reasoning: str
    answer: str = ""			# empty when the right thing is a call
    call: tuple = None			# (tool name, arguments as JSON text)
    history: list = field(default_factory=list)	# messages before the question
    after: list = field(default_factory=list)	# messages after it: a call and its result
    system: str = ""
    tools: list = field(default_factory=list)

    def messages(self):
        """The request as the HTTP API takes it."""
        messages = [{"role": "system", "content": self.system}] if self.system else []
        return messages + self.history + [{"role": "user", "content": self.question}] + self.after


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}
