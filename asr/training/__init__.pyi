from . import source as source
from .processes import agree as agree
from .rooms import Rooms as Rooms
from .trainer import train as train
