"""Refusals of batches. Codes are part of the public surface."""

from skerry.kernel.errors import Conflict, FieldError, Forbidden, Malformed, NotFound, RateLimited


class UnknownBatch(NotFound):
    code = "unknown_batch"


class BatchNotCancellable(Conflict):
    code = "batch_not_cancellable"


class NotABatchFile(Malformed):
    """The input file exists and is for something else."""

    code = "wrong_file_purpose"

    def __init__(self, file: str, purpose: str) -> None:
        words = f"{file} was uploaded with the purpose {purpose!r}"
        super().__init__(
            words,
            suggestion="Upload it with purpose=batch.",
            errors=[FieldError("input_file_id", self.code, words)],
        )


class KeyElsewhere(Forbidden):
    """A batch runs on the key that makes it, and an operator's key calls models for its own project only."""

    code = "key_of_another_project"

    def __init__(self) -> None:
        super().__init__(
            "a batch runs on the key that makes it, and this key belongs to another project",
            suggestion="Make it with a key of that project.",
        )


class TooManyBatches(RateLimited):
    code = "too_many_batches"
