"""Data sets, few-shot splits, decoding and augmentation."""

from atcon.data.augment import AUGMENTATIONS
from atcon.data.clip_files import CLIP_SUFFIX, read_clip
from atcon.data.clips import clips, unlabelled_clips
from atcon.data.coco import coco
from atcon.data.cutting import ClipForm
from atcon.data.decoding import read_video
from atcon.data.digits import digits, digits_source
from atcon.data.few_shot import Split, draw_test, few_shot_split, group_of
from atcon.data.folder import folder
from atcon.data.grouped import Balance, balanced_parts
from atcon.data.hugging_face import hf
from atcon.data.image_set import ImageSet
from atcon.data.images import read_image, resize
from atcon.data.loading import Decoded, Reader, load, stream
from atcon.data.policy import OnBadImage
from atcon.data.svhn import svhn
from atcon.data.unlabelled import left_over, unlabelled
from atcon.data.views import VIEWS, ViewOptions, draw_views
from atcon.data.voc import VOC_CLASSES, voc
from atcon.data.xml_folder import xml_folder

__all__ = [
    "AUGMENTATIONS",
    "CLIP_SUFFIX",
    "VIEWS",
    "VOC_CLASSES",
    "Balance",
    "ClipForm",
    "Decoded",
    "ImageSet",
    "OnBadImage",
    "Reader",
    "Split",
    "ViewOptions",
    "balanced_parts",
    "clips",
    "coco",
    "digits",
    "digits_source",
    "draw_test",
    "draw_views",
    "few_shot_split",
    "folder",
    "group_of",
    "hf",
    "left_over",
    "load",
    "read_clip",
    "read_image",
    "read_video",
    "resize",
    "stream",
    "svhn",
    "unlabelled",
    "unlabelled_clips",
    "voc",
    "xml_folder",
]
