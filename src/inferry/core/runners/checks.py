"""What an answer must be, whatever the service: as many results as inputs, vectors of the width."""

from __future__ import annotations

from dataclasses import replace

from inferry.domain import (
    ChatChunk,
    Completion,
    DenseEmbeddings,
    ElementType,
    InferenceRequest,
    RankedDocument,
    Ranking,
    Result,
    SparseEmbeddings,
)
from inferry.errors import UnreadableReply


def check_result(result: Result, request: InferenceRequest, *, dimensions: int | None) -> Result:
    """Give `result`, or raise `UnreadableReply` when it does not answer `request`.

    dimensions: stored width of dense vectors, None when it is not known yet. Rankings come back
    sorted, cut to `top_n`, and with the texts that were asked for.
    """
    match result:
        case DenseEmbeddings(vectors=vectors, element_type=element_type):
            _check_count(len(vectors), request)
            if dimensions is not None:
                _check_width(
                    result, dimensions // 8 if element_type is ElementType.BIT else dimensions
                )
        case SparseEmbeddings(items=items):
            _check_count(len(items), request)
        case Ranking():
            return order_ranking(result, request)
        case Completion() | ChatChunk():
            return result
    return result


def order_ranking(ranking: Ranking, request: InferenceRequest) -> Ranking:
    """Sort by score, cut to `top_n`, and give or take away texts as `return_documents` says."""
    count = len(request.inputs)
    for document in ranking.documents:
        if not 0 <= document.index < count:
            raise _unreadable(
                request, f"index [{document.index}] is not one of the [{count}] documents"
            )
    documents = sorted(ranking.documents, key=lambda one: -one.relevance_score)[: request.top_n]
    if request.return_documents is not None:
        documents = [_with_text(one, request) for one in documents]
    return replace(ranking, documents=tuple(documents))


def _with_text(document: RankedDocument, request: InferenceRequest) -> RankedDocument:
    text = document.text
    if not request.return_documents:
        text = None
    elif text is None:
        source = request.inputs[document.index]
        text = source if isinstance(source, str) else None
    return RankedDocument(document.index, document.relevance_score, text)


def _check_count(found: int, request: InferenceRequest) -> None:
    wanted = len(request.inputs)
    if found != wanted:
        raise _unreadable(
            request,
            f"Error the number of embedding responses [{found}] does not equal the number of "
            f"requests [{wanted}]",
        )


def _check_width(embeddings: DenseEmbeddings, width: int) -> None:
    for vector in embeddings.vectors:
        if vector.width != width:
            raise UnreadableReply(
                f"Failed to parse the response: an embedding has [{vector.width}] elements "
                f"instead of the [{width}] of the endpoint"
            )


def _unreadable(request: InferenceRequest, reason: str) -> UnreadableReply:
    subject = request.endpoint.inference_id
    return UnreadableReply(
        f"Failed to parse the response for request from inference entity id [{subject}]: {reason}"
    )
