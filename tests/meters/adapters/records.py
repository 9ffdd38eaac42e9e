# SPDX-License-Identifier: Apache-2.0
"""Small records of every format, built from the standards and not from any device's sample.

Checksums, signatures and encodings are written here a second time, independently of the libraries
under test.
"""

from __future__ import annotations

import base64
import hashlib
import json
import struct
from collections.abc import Sequence
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec


def crc16_arc(data: bytes) -> int:
    """CRC-16 of P1: polynomial x16 + x15 + x2 + 1, reflected, from zero."""
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0xA001 if crc & 1 else 0)
    return crc


def telegram(*lines: str, crc: bool = True) -> bytes:
    """A P1 telegram with its CRC."""
    body = "\r\n".join(["/ISK5\\2M550T-1012", "", *lines, "!"]).encode()
    return body + (f"{crc16_arc(body):04X}".encode() if crc else b"") + b"\r\n"


DUTCH = telegram(
    "1-3:0.2.8(50)",
    "0-0:1.0.0(240401120000S)",
    "0-0:96.1.1(4530303434303037303530373932343137)",
    "1-0:1.8.1(000671.578*kWh)",
    "1-0:1.8.2(000842.472*kWh)",
    "1-0:2.8.1(000001.000*kWh)",
    "1-0:2.8.2(000002.500*kWh)",
    "0-0:96.14.0(0001)",
    "1-0:1.7.0(00.333*kW)",
    "0-1:24.1.0(003)",
    "0-1:24.2.1(240401115500S)(00246.138*m3)",
)
BELGIAN = telegram(
    "0-0:96.1.4(50217)",
    "0-0:96.1.1(3153414733313030303030323331)",
    "0-0:1.0.0(240115120000W)",
    "1-0:1.8.1(000100.001*kWh)",
    "1-0:1.8.2(000200.002*kWh)",
    "1-0:2.8.1(000300.003*kWh)",
    "1-0:2.8.2(000400.004*kWh)",
    "1-0:1.4.0(02.351*kW)",
)
LUXEMBOURGISH = telegram(
    "1-3:0.2.8(42)",
    "0-0:1.0.0(240701000000S)",
    "0-0:42.0.0(53414731303330373030303137383438)",
    "1-0:1.8.0(000353.331*kWh)",
    "1-0:2.8.0(000012.000*kWh)",
    "1-0:3.8.0(000014.747*kvarh)",
)


def crc16_x25(data: bytes) -> bytes:
    """CRC-16 of SML (DIN EN 62056-46), low byte first."""
    crc = 0xFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x8408 if crc & 1 else 0)
    return struct.pack("<H", crc ^ 0xFFFF)


class Unsigned(int):
    """An SML unsigned integer of four bytes, or of eight where it needs them."""


def sml_field(value: Any) -> bytes:
    """A value in SML's binary encoding; None is an optional field left out."""
    if value is None:
        return b"\x01"
    if isinstance(value, list):
        return bytes([0x70 | len(value)]) + b"".join(map(sml_field, value))
    if isinstance(value, bytes):
        length = len(value) + 1
        if length > 15:
            length += 1
            return bytes([0x80 | length >> 4, length & 15]) + value
        return bytes([length]) + value
    if isinstance(value, Unsigned):
        size = 4 if value < 2**32 else 8
        return bytes([0x60 | size + 1]) + int(value).to_bytes(size, "big")
    return bytes([0x50 | 9]) + int(value).to_bytes(8, "big", signed=True)


def sml_message(tag: int, body: list[Any] | bytes) -> bytes:
    """A message with its CRC around a body, given as a list or encoded already."""
    encoded = body if isinstance(body, bytes) else sml_field(body)
    choice = b"\x72" + b"\x65" + tag.to_bytes(4, "big") + encoded
    head = b"\x76" + sml_field(b"\x01\x02") + b"\x62\x00" + b"\x62\x00" + choice
    return head + b"\x63" + crc16_x25(head) + b"\x00"


def sml_entry(obis: str, value: Any, unit: int | None = 30, scaler: int = -1) -> list[Any]:
    name = bytes(map(int, obis.split("."))) + b"\xff"
    scale = [None, None] if unit is None else [Unsigned(unit), scaler]
    return [name, None, None, *scale, value, None]


SERVER = bytes.fromhex("0a01454d480000a1b2c3")


def sml_list(entries: Sequence[list[Any]], time: list[Any] | None = None) -> list[Any]:
    """The body of a list response."""
    return [None, SERVER, None, time, list(entries), None, None]


def sml_frame(body: list[Any] | bytes) -> bytes:
    """A whole SML file around the body of a list response."""
    messages = b"".join(
        (
            sml_message(0x0101, [None, None, b"\x01", SERVER, None, None]),
            sml_message(0x0701, body),
            sml_message(0x0201, [None]),
        )
    )
    padding = -len(messages) % 4
    frame = b"\x1b\x1b\x1b\x1b\x01\x01\x01\x01" + messages.replace(b"\x1b" * 4, b"\x1b" * 8)
    frame += b"\x00" * padding + b"\x1b\x1b\x1b\x1b\x1a" + bytes([padding])
    return frame + crc16_x25(frame)


SML_LIST = sml_list(
    [
        sml_entry("1.0.96.1.0", SERVER, unit=None),
        sml_entry("1.0.1.8.0", 123456789),
        sml_entry("1.0.2.8.0", 5),
        sml_entry("1.0.16.7.0", -250, unit=27, scaler=0),
    ],
    time=[Unsigned(1), Unsigned(4711)],
)
SML_SECONDS = sml_frame(SML_LIST)
SML_CLOCK = sml_frame(
    sml_list(
        [sml_entry("1.0.1.8.1", 1000, scaler=0), sml_entry("1.0.1.8.2", 234, scaler=0)],
        time=[Unsigned(2), Unsigned(1711965600)],
    )
)


def sunspec_map(*models: tuple[int, bytes]) -> bytes:
    """The register map of a device, from "SunS" to the end model."""
    blocks = (struct.pack(">HH", number, len(body) // 2) + body for number, body in models)
    return b"SunS" + b"".join(blocks) + struct.pack(">HH", 0xFFFF, 0)


def sunspec_common(serial: bytes) -> bytes:
    texts = [(b"Maker", 32), (b"Model", 32), (b"", 16), (b"1.0", 16), (serial, 32)]
    return b"".join(text.ljust(size, b"\0") for text, size in texts) + struct.pack(">HH", 1, 0x8000)


def sunspec_inverter(wh: int, scale: int) -> bytes:
    """Model 103: WH in registers 24 and 25, WH_SF in 26, counted from the model's ID."""
    body = bytearray(b"\xff" * 100)
    body[44:50] = struct.pack(">Ih", wh, scale)
    return bytes(body)


def sunspec_meter(exported: int, imported: int, scale: int) -> bytes:
    """Model 203: TotWhExp in registers 38 and 39, TotWhImp in 46 and 47, TotWh_SF in 54."""
    body = bytearray(b"\0" * 210)
    body[72:76] = struct.pack(">I", exported)
    body[88:92] = struct.pack(">I", imported)
    body[104:106] = struct.pack(">h", scale)
    return bytes(body)


SUNSPEC_MAP = sunspec_map(
    (1, sunspec_common(b"INV-1")),
    (103, sunspec_inverter(12345, 1)),
    (1, sunspec_common(b"MET-1")),
    (203, sunspec_meter(700, 0, 2)),
)
SUNSPEC_JSON = json.dumps(
    {
        "name": "x",
        "models": [
            {"ID": 1, "SN": "DER-1"},
            {"ID": 701, "TotWhInj": 150, "TotWhAbs": 0, "TotWh_SF": 3},
        ],
    }
).encode()


def ocmf_key(curve: ec.EllipticCurve) -> ec.EllipticCurvePrivateKey:
    """The same key every time: small, and good for tests only."""
    return ec.derive_private_key(0x5EED_5EED_5EED, curve)


def public_der(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def ocmf_payload(*readings: dict[str, Any], page: str = "T1", **changes: Any) -> str:
    payload = {"FV": "1.0", "GS": "GATE", "PG": page, "MS": "CHARGER-7", "RD": list(readings)}
    return json.dumps({**payload, **changes})


def ocmf_reading(**changes: Any) -> dict[str, Any]:
    return {
        "TM": "2024-04-01T12:00:00,000+0200 S",
        "TX": "B",
        "RV": 12.5,
        "RI": "1-b:1.8.0",
        "RU": "kWh",
        "RT": "AC",
        "EF": "",
        "ST": "G",
        **changes,
    }


def ocmf_record(
    payload: str, curve: ec.EllipticCurve | None = None, name: str | None = None
) -> str:
    """A signed record on a curve, P-256 unless said."""
    key = ocmf_key(curve or ec.SECP256R1())
    signature = key.sign(payload.encode(), ec.ECDSA(hashes.SHA256()))
    head = {"SA": f"ECDSA-{name}-SHA256"} if name else {}
    return f"OCMF|{payload}|{json.dumps({**head, 'SD': signature.hex()})}"


def ocmf_xml(record: str, key: bytes | None, encoding: str = "plain") -> bytes:
    text = base64.b64encode(record.encode()).decode() if encoding == "base64" else record
    public = f"<publicKey>{key.hex()}</publicKey>" if key else ""
    return (
        f'<?xml version="1.0"?><values><value><signedData format="OCMF" encoding="{encoding}">'
        f"<![CDATA[{text}]]></signedData>{public}</value></values>"
    ).encode()


OCMF = ocmf_xml(
    ocmf_record(
        ocmf_payload(
            ocmf_reading(),
            {"RV": 1, "RI": "1-b:2.8.0"},
            ocmf_reading(TM="2024-04-01T13:00:00,000+0200 R", TX="E", RV="14.75"),
            {"RV": 1.001, "RI": "1-b:2.8.0"},
        )
    ),
    public_der(ocmf_key(ec.SECP256R1())),
)

HOMEWIZARD = json.dumps(
    {
        "unique_id": "HW1",
        "gas_timestamp": 210314112233,
        "total_power_import_t1_kwh": 10830.511,
        "total_power_import_t2_kwh": 2948.827,
        "total_power_export_kwh": 0,
    }
).encode()

FRONIUS_METERS = json.dumps(
    {
        "Body": {
            "Data": {
                "0": {
                    "Details": {"Serial": "A"},
                    "EnergyReal_WAC_Plus_Absolute": 100,
                    "EnergyReal_WAC_Minus_Absolute": 200,
                    "Meter_Location_Current": 0,
                    "TimeStamp": 1711965600,
                },
                "1": {
                    "Details": {"Serial": "B"},
                    "EnergyReal_WAC_Sum_Consumed": 7,
                    "EnergyReal_WAC_Sum_Produced": None,
                    "Meter_Location_Current": 3,
                    "TimeStamp": 1711965600,
                },
            }
        },
        "Head": {"Status": {"Code": 0}, "Timestamp": "2024-04-01T12:00:01+02:00"},
    }
).encode()

SHELLY = b"\n".join(
    json.dumps(one).encode()
    for one in (
        {
            "src": "shellypro3em-1",
            "method": "NotifyStatus",
            "params": {
                "ts": 1711965600.5,
                "emdata:0": {"id": 0, "total_act": 1234.56, "total_act_ret": 7.0},
            },
        },
        {
            "mac": "AABB",
            "unixtime": 1711965600,
            "emeters": [
                {"total": 10.4, "total_returned": 2, "is_valid": True},
                {"total": 5, "total_returned": 0, "is_valid": False},
            ],
            "meters": [{"total": 6000, "is_valid": True}],
        },
    )
)

TASMOTA = json.dumps(
    {
        "Time": "2024-04-01T12:00:00",
        "ENERGY": {"Total": 3.185, "Today": 0.5, "ExportActive": 0.25},
        "MT175": {"E_in": 10.5, "E_out": 0, "P": 12, "Meter_id": "0901454d4800"},
    }
).encode()

AIIDA = json.dumps(
    {
        "timestamp": "2024-04-01T12:00:00Z",
        "meterId": "M1",
        "values": [
            {"dataTag": "1-0:1.8.0", "value": "50.5", "unitOfMeasurement": "kWh"},
            {"dataTag": "1-0:2.8.0", "value": "7", "unitOfMeasurement": "Wh"},
            {"dataTag": "1-0:1.7.0", "value": "1", "unitOfMeasurement": "kW"},
        ],
    }
).encode()


def tic_group(*fields: str, standard: bool) -> bytes:
    """One group of a Linky's customer port with its checksum."""
    separator = "\t" if standard else " "
    text = separator.join(fields) + separator
    summed = text if standard else text[:-1]
    return f"\n{text}{chr((sum(map(ord, summed)) & 0x3F) + 0x20)}\r".encode()


def tic_frame(*groups: bytes) -> bytes:
    return b"\x02" + b"".join(groups) + b"\x03"


LINKY_STANDARD = tic_frame(
    tic_group("ADSC", "041876097315", standard=True),
    tic_group("DATE", "E240401120000", "", standard=True),
    tic_group("EAST", "008400123", standard=True),
    tic_group("EAIT", "000000077", standard=True),
)
LINKY_HISTORICAL = tic_frame(
    tic_group("ADCO", "020828368445", standard=False),
    tic_group("OPTARIF", "HC..", standard=False),
    tic_group("HCHC", "001065963", standard=False),
    tic_group("HCHP", "001521211", standard=False),
    tic_group("PAPP", "00750", standard=False),
)


def enedis(points: Sequence[dict[str, Any]], unit: str = "W", **changes: Any) -> bytes:
    kind = {"unit": unit, "measurement_kind": "power", "aggregate": "average"}
    body = {"usage_point_id": "PRM1", "reading_type": kind, "interval_reading": list(points)}
    return json.dumps({"meter_reading": {**body, **changes}}).encode()


def enedis_point(
    date: str, value: str | None, length: str = "PT30M", kind: str = "B"
) -> dict[str, Any]:
    return {"value": value, "date": date, "interval_length": length, "measure_type": kind}


ENEDIS = enedis(
    [
        enedis_point("2024-04-01 00:30:00", "1000"),
        enedis_point("2024-04-01 01:00:00", "501", kind="E"),
        enedis_point("2024-04-01 01:10:00", "600", length="PT10M"),
    ]
)


def datadis(rows: Sequence[tuple[str, str, Any, Any, str]]) -> bytes:
    names = ("date", "time", "consumptionKWh", "surplusEnergyKWh", "obtainMethod")
    return json.dumps(
        [{"cups": "ES1", **dict(zip(names, row, strict=True))} for row in rows]
    ).encode()


DATADIS = datadis(
    [
        ("2023/12/01", "01:00", 0.979, 0, "Real"),
        ("2023/12/01", "02:00", 0.5, 1.25, "Estimada"),
        ("2023/12/01", "24:00", None, 0, ""),
    ]
)


def fluvius_interval(start: str, end: str, **sides: Any) -> dict[str, Any]:
    return {"start": start, "end": end, "measurements": [sides]}


def fluvius_value(value: Any, state: str = "READ", unit: str = "kWh") -> dict[str, Any]:
    return {"value": value, "unit": unit, "validationState": state}


FLUVIUS = json.dumps(
    {
        "data": {
            "headpoint": {
                "ean": "5414",
                "energyType": "E",
                "quarterHourlyEnergy": [
                    fluvius_interval(
                        "2024-12-01T00:00:00Z",
                        "2024-12-01T00:15:00Z",
                        offtake={"day": fluvius_value(0.009), "night": fluvius_value(0.001, "EST")},
                        injection={"total": fluvius_value(0), "reactive": fluvius_value(5)},
                    )
                ],
                "physicalMeters": [{"meterID": "P", "quarterHourlyEnergy": []}],
            }
        }
    }
).encode()

MIJN_AANSLUITING = json.dumps(
    [
        {
            "MarketEvaluationPoint": {
                "MRID": "8716",
                "RegisterList": [
                    {
                        "MRID": code,
                        "ReadingList": [
                            {
                                "DateAndOrTime": {"DateTime": "2023-05-01T00:00:00.000+02:00"},
                                "ReadingType": unit,
                                "Value": value,
                            }
                        ],
                    }
                    for code, unit, value in (
                        ("1.8.1", {"Multiplier": "k", "Unit": "Wh"}, 9838.65),
                        ("1.8.2", {"Multiplier": "k", "Unit": "Wh"}, 7103.8),
                        ("2.8.1", {"Unit": "Wh"}, 5),
                        ("1.8.0", {"Unit": "m3"}, 35543.3),
                    )
                ],
            }
        }
    ]
).encode()


def energinet(
    points: Sequence[dict[str, Any]], resolution: str, start: str, end: str, business: str = "A04"
) -> bytes:
    series = {
        "businessType": business,
        "curveType": "A01",
        "measurement_Unit.name": "KWH",
        "MarketEvaluationPoint": {"mRID": {"codingScheme": "A10", "name": "5713"}},
        "Period": [
            {
                "resolution": resolution,
                "timeInterval": {"start": start, "end": end},
                "Point": list(points),
            }
        ],
    }
    document = {"MyEnergyData_MarketDocument": {"TimeSeries": [series]}}
    return json.dumps({"result": [document]}).encode()


def energinet_point(position: int, quantity: str | None, quality: str = "A04") -> dict[str, Any]:
    return {
        "position": str(position),
        "out_Quantity.quantity": quantity,
        "out_Quantity.quality": quality,
    }


ENERGINET = energinet(
    [energinet_point(1, "0.13"), energinet_point(2, "0.2", "A03"), energinet_point(4, "0.4")],
    "PT1H",
    "2024-02-11T23:00:00Z",
    "2024-02-12T03:00:00Z",
)


def cim_xml(points: str, direction: str = "A02", unit: str = "KWH", curve: str = "A01") -> bytes:
    return f"""<?xml version="1.0"?>
<E:Envelope xmlns:E="http://example.org/any"><E:TimeSeriesList><E:TimeSeries>
 <E:flowDirection.direction>{direction}</E:flowDirection.direction>
 <E:curveType>{curve}</E:curveType>
 <E:marketEvaluationPoint.mRID><E:codingScheme>NAT</E:codingScheme><E:value>MP1</E:value>
 </E:marketEvaluationPoint.mRID>
 <E:energy_Measurement_Unit.name>{unit}</E:energy_Measurement_Unit.name>
 <E:Series_PeriodList><E:Series_Period>
  <E:timeInterval><E:start>2024-04-01T00:00Z</E:start><E:end>2024-04-01T01:00Z</E:end></E:timeInterval>
  <E:resolution>PT15M</E:resolution><E:PointList>{points}</E:PointList>
 </E:Series_Period></E:Series_PeriodList>
</E:TimeSeries></E:TimeSeriesList></E:Envelope>""".encode()


def cim_point(position: int, quantity: str, quality: str = "A04") -> str:
    return (
        f"<E:Point><E:position>{position}</E:position>"
        f"<E:energy_Quantity.quantity>{quantity}</E:energy_Quantity.quantity>"
        f"<E:energy_Quantity.quality>{quality}</E:energy_Quantity.quality></E:Point>"
    )


CIM_XML = cim_xml("".join(cim_point(i, f"0.{i}") for i in range(1, 5)))
CIM_JSON = json.dumps(
    {
        "MarketDocument": {
            "TimeSeries": [
                {
                    "flowDirection.direction": "A01",
                    "marketEvaluationPoint.mRID": {"value": "MP2"},
                    "energy_Measurement_Unit.name": "KWT",
                    "Period": [
                        {
                            "resolution": "PT30M",
                            "timeInterval": {
                                "start": "2024-04-01T00:00Z",
                                "end": "2024-04-01T01:00Z",
                            },
                            "Point": [
                                {"position": 1, "energy_Quantity.quantity": 2},
                                {"position": 2, "energy_Quantity.quantity": 1.001},
                            ],
                        }
                    ],
                }
            ]
        }
    }
).encode()


def eda(energies: str, sector: str = "01") -> bytes:
    return f"""<?xml version="1.0"?>
<c:ConsumptionRecord xmlns:c="http://www.ebutilities.at/c/01p30" xmlns:t="http://www.ebutilities.at/t">
 <c:MarketParticipantDirectory><t:Sector>{sector}</t:Sector></c:MarketParticipantDirectory>
 <c:ProcessDirectory><t:MeteringPoint>AT001</t:MeteringPoint>
  <c:Energy>{energies}</c:Energy></c:ProcessDirectory>
</c:ConsumptionRecord>""".encode()


def eda_series(code: str, *positions: tuple[str, str, str, str], unit: str = "KWH") -> str:
    inner = "".join(
        f"<c:EP><c:DTF>{start}</c:DTF><c:DTT>{end}</c:DTT><c:MM>{method}</c:MM><c:BQ>{value}</c:BQ></c:EP>"
        for start, end, method, value in positions
    )
    return f'<c:EnergyData MeterCode="{code}" UOM="{unit}">{inner}</c:EnergyData>'


EDA_FIRST = ("2024-04-01T00:00:00+02:00", "2024-04-01T00:15:00+02:00")
EDA_SECOND = ("2024-04-01T00:15:00+02:00", "2024-04-01T00:30:00+02:00")
EDA = eda(
    eda_series("1-1:1.9.0 P.01", (*EDA_FIRST, "L1", "0.125"), (*EDA_SECOND, "L3", "0.25"))
    + eda_series("1-1:2.9.0 P.01", (*EDA_FIRST, "L1", "0.000"), (*EDA_SECOND, "L2", "0.001"))
)


def espi(kind: str, *readings: str, extra: str = "") -> bytes:
    """A Green Button feed of one usage point, one reading type and one block."""

    def entry(name: str, content: str, own: str, up: str, *related: str) -> str:
        links = "".join(f'<link rel="related" href="{one}"/>' for one in related)
        return (
            f'<entry><link rel="self" href="{own}"/><link rel="up" href="{up}"/>{links}'
            f'<content><{name} xmlns="http://naesb.org/espi">{content}</{name}></content></entry>'
        )

    base = "https://example.org/UsagePoint"
    return (
        '<feed xmlns="http://www.w3.org/2005/Atom">'
        + entry(
            "UsagePoint",
            "<ServiceCategory><kind>0</kind></ServiceCategory>",
            f"{base}/41",
            base,
            f"{base}/41/MeterReading",
        )
        + entry(
            "MeterReading",
            "",
            f"{base}/41/MeterReading/1",
            f"{base}/41/MeterReading",
            f"{base}/41/MeterReading/1/IntervalBlock",
            "https://example.org/ReadingType/9",
        )
        + entry(
            "ReadingType",
            kind,
            "https://example.org/ReadingType/9",
            "https://example.org/ReadingType",
        )
        + entry(
            "IntervalBlock",
            "".join(readings),
            f"{base}/41/MeterReading/1/IntervalBlock/1",
            f"{base}/41/MeterReading/1/IntervalBlock",
        )
        + extra
        + "</feed>"
    ).encode()


def espi_kind(flow: int = 1, behaviour: int = 4, power: int = 0, unit: int = 72) -> str:
    return (
        f"<accumulationBehaviour>{behaviour}</accumulationBehaviour><commodity>1</commodity>"
        f"<flowDirection>{flow}</flowDirection><intervalLength>900</intervalLength>"
        f"<powerOfTenMultiplier>{power}</powerOfTenMultiplier><uom>{unit}</uom>"
    )


def espi_reading(start: int, value: str, quality: int | None = None, seconds: int = 900) -> str:
    said = (
        "" if quality is None else f"<ReadingQuality><quality>{quality}</quality></ReadingQuality>"
    )
    return (
        f"<IntervalReading>{said}<timePeriod><duration>{seconds}</duration><start>{start}</start>"
        f"</timePeriod><value>{value}</value></IntervalReading>"
    )


GREENBUTTON = espi(
    espi_kind(power=-3),
    espi_reading(1711965600, "273000"),
    espi_reading(1711966500, "1000", quality=8),
)

CSV = b"""meter,start,end,import_kwh,export_kwh,quality
H1,2024-04-01T00:00:00Z,2024-04-01T00:15:00Z,0.125,0,measured
H1,2024-04-01T00:15:00Z,2024-04-01T00:30:00Z,,1.5,estimated
"""
CSV_LOCAL = """Zeitstempel;Verbrauch (kWh);Einspeisung (kWh)
29.10.2023 01:00;1,5;0
29.10.2023 02:00;1,25;0
29.10.2023 02:00;1,75;0
29.10.2023 03:00;1.000,5;0
""".encode("cp1252")

RECORDS: dict[str, list[bytes]] = {
    "aiida": [AIIDA],
    "cim": [CIM_XML, CIM_JSON],
    "csv": [CSV, CSV_LOCAL],
    "datadis": [DATADIS],
    "dsmr": [DUTCH, BELGIAN, LUXEMBOURGISH],
    "eda": [EDA],
    "energinet": [ENERGINET],
    "enedis": [ENEDIS],
    "fluvius": [FLUVIUS],
    "fronius": [FRONIUS_METERS],
    "greenbutton": [GREENBUTTON],
    "homewizard": [HOMEWIZARD],
    "linky": [LINKY_STANDARD, LINKY_HISTORICAL],
    "mijn-aansluiting": [MIJN_AANSLUITING],
    "ocmf": [OCMF],
    "shelly": [SHELLY],
    "sml": [SML_SECONDS, SML_CLOCK],
    "sunspec": [SUNSPEC_MAP, SUNSPEC_JSON],
    "tasmota": [TASMOTA],
}
"""At least one record of each built-in adapter."""


def digest(data: bytes) -> str:
    """A short name of a record in a test's message."""
    return hashlib.sha256(data).hexdigest()[:8]
