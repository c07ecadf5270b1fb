import base64
import zlib

import pytest

from skerry.training.rules import tensorboard
from skerry.training.rules.tensorboard import Corrupt, Scalar
from skerry.training.supervisor.boards import Boards

# Written by tensorboardX 2.6.5: `add_scalar` twice, then a float and a double as tensors, as TensorFlow 2 has them.
WRITTEN = zlib.decompress(
    base64.b85decode(
        "c-oU-fPlsI-b$R8gKvG_f8ds*6mL>dVrHJ6YguYuiIvg&H79hWpz4HX-_Ye`U=VQl6LQm0fLV)|i<^rjC%?E@lz~CPfkEnYog7r<"
        "%{xLyK$Q*<mF!xAT>M-dsbz^d`iaTOK-CO(p|>8+KvR7HqM8$|nz<y+$ccl4QHup=jJ?Cvho9A;s*C*}GXPaHID%DkX-RU4bFnAq"
        "=am56>%_ysq{IPH_rQM2e%omP+U7ZW"
    )
)
SCALARS = [
    Scalar("loss", 3, 2.5, 1_700_000_000_250),
    Scalar("eval/acc", 7, 0.125, 1_700_000_001_000),
    Scalar("tf2", 9, 0.75, 1_700_000_003_000),
    Scalar("content", 10, 0.5, 1_700_000_004_000),
]


def test_scalars_of_a_real_file_are_read():
    assert tensorboard.read(WRITTEN) == (SCALARS, len(WRITTEN))


def test_a_file_that_grows_is_read_record_by_record():
    found = []
    offset = 0
    for size in range(0, len(WRITTEN) + 1, 7):
        scalars, used = tensorboard.read(WRITTEN[offset:size])
        found += scalars
        offset += used
    assert found == [one for one in SCALARS if one in found]
    assert len(found) >= 3


@pytest.mark.parametrize("place", range(24, len(WRITTEN), 11))
def test_damage_is_found(place):
    damaged = WRITTEN[:place] + bytes([WRITTEN[place] ^ 0x40]) + WRITTEN[place + 1 :]
    with pytest.raises(Corrupt):
        tensorboard.read(damaged)


def test_a_folder_is_read_on_from_where_one_stopped(tmp_path):
    boards = Boards([tmp_path / "runs", tmp_path / "absent"])
    assert boards.read() == []
    file = tmp_path / "runs" / "today" / "events.out.tfevents.1.host"
    file.parent.mkdir(parents=True)
    file.write_bytes(WRITTEN[:-30])
    assert boards.read() == SCALARS[:3]
    file.write_bytes(WRITTEN)
    assert boards.read() == SCALARS[3:]
    assert boards.read() == []


def test_what_is_no_event_file_is_left_alone(tmp_path):
    (tmp_path / "events.out.tfevents.2.host").write_bytes(b"not a record at all, but long enough for a head")
    boards = Boards([tmp_path])
    assert boards.read() == []
    (tmp_path / "events.out.tfevents.3.host").write_bytes(WRITTEN)
    assert boards.read() == SCALARS
