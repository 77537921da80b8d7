from .catalogue import export_corpus as export_corpus
from .catalogue import import_corpus as import_corpus
