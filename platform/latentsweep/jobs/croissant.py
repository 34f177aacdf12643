"""A release as Croissant 1.0 describes data sets (https://docs.mlcommons.org/croissant/docs/croissant-spec.html)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileProperty": "cr:fileProperty",
    "fileObject": "cr:fileObject",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
"""The context that the specification gives (its appendix 1)."""


def croissant(
    name: str,
    description: str,
    date: str,
    licence: str,
    table: tuple[str, str],
    columns: Mapping[str, str],
    pictures: Mapping[str, str],
) -> dict[str, Any]:
    """The description of a folder with a table and pictures.

    ``table`` is the name of a CSV file and its SHA-256, ``columns`` are its columns' types, as ``sc:Text``.
    ``pictures`` are sets of PNGs by name, each with the pattern of its files. An empty ``licence`` is left out.
    """
    file, digest = table
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": name,
        "description": description,
        "datePublished": date,
        "version": "1.0.0",
        **({"license": licence} if licence else {}),
        "keywords": ["synthetic", "brain MRI", "latent diffusion"],
        "rai:dataCollection": "Drawn by a generative model; no slice is of a patient.",
        "rai:dataLimitations": "Single slices, not for any decision about a patient. See README.md.",
        "distribution": [
            {
                "@type": "cr:FileObject",
                "@id": file,
                "contentUrl": file,
                "encodingFormat": "text/csv",
                "sha256": digest,
            },
            *(
                {"@type": "cr:FileSet", "@id": f"{what}-files", "encodingFormat": "image/png", "includes": pattern}
                for what, pattern in pictures.items()
            ),
        ],
        "recordSet": [_rows(file, columns), *map(_pictures, pictures)],
    }


def _rows(table: str, columns: Mapping[str, str]) -> dict[str, Any]:
    """A record for each row of a table."""
    stem = table.partition(".")[0]
    fields = [
        _field(f"{stem}/{column}", kind, {"fileObject": {"@id": table}, "extract": {"column": column}})
        for column, kind in columns.items()
    ]
    return {"@type": "cr:RecordSet", "@id": stem, "name": stem, "field": fields}


def _pictures(what: str) -> dict[str, Any]:
    """A record for each picture of a set: the name of its file, and itself."""
    files = {"@id": f"{what}-files"}
    fields = [
        _field(f"{what}/{name}", kind, {"fileSet": files, "extract": {"fileProperty": part}})
        for name, kind, part in (("file", "sc:Text", "filename"), ("picture", "sc:ImageObject", "content"))
    ]
    return {"@type": "cr:RecordSet", "@id": what, "name": what, "field": fields}


def _field(name: str, kind: str, source: Mapping[str, Any]) -> dict[str, Any]:
    short = name.rpartition("/")[2]
    return {"@type": "cr:Field", "@id": name, "name": short, "dataType": kind, "source": source}
