from .catalogue import export_corpus as export_corpus
from .catalogue import import_certainties as import_certainties
from .catalogue import import_corpus as import_corpus
from .elan import elan_text as elan_text
from .textgrid import textgrid_text as textgrid_text
