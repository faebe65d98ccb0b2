"""LlamaIndex's Elasticsearch embeddings: `llama_index_embeddings.py URL API_KEY MODEL_ID...`.

Prints {model id: [vectors of the documents, vector of the query]} as JSON.
"""

import json
import sys
import warnings

from elasticsearch import Elasticsearch


def main():
    with warnings.catch_warnings():  # it imports a client from where that no longer lives
        warnings.filterwarnings("ignore", "Importing from", DeprecationWarning)
        from llama_index.embeddings.elasticsearch import ElasticsearchEmbedding

    url, api_key, *model_ids = sys.argv[1:]
    texts = json.loads(sys.stdin.read())
    seen = {}
    with Elasticsearch(url, api_key=api_key) as client:
        for model_id in model_ids:
            embedding = ElasticsearchEmbedding.from_es_connection(model_id, client)
            documents = embedding.get_text_embedding_batch(texts)
            seen[model_id] = [documents, embedding.get_query_embedding(texts[0])]
    sys.stdout.write(json.dumps(seen))


main()
