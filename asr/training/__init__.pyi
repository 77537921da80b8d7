from . import source as source
from .processes import agree as agree
from .trainer import train as train
