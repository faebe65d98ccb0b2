"""langchain-elasticsearch's embeddings: `langchain_embeddings.py URL API_KEY MODEL_ID...`.

Prints {model id: [vectors of the documents, vector of the query]} as JSON.
"""

import json
import sys

from elasticsearch import Elasticsearch
from langchain_elasticsearch import ElasticsearchEmbeddings

url, api_key, *model_ids = sys.argv[1:]
texts = json.loads(sys.stdin.read())

with Elasticsearch(url, api_key=api_key) as client:
    seen = {}
    for model_id in model_ids:
        embeddings = ElasticsearchEmbeddings(model_id, client=client)
        seen[model_id] = [embeddings.embed_documents(texts), embeddings.embed_query(texts[0])]

sys.stdout.write(json.dumps(seen))
