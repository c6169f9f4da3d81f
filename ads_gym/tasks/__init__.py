"""Tasks: a network config and an evaluator of its architectures, under a name or in a folder."""

from ads_gym.data.paths import tasks_home
from ads_gym.tasks.base import Task
from ads_gym.tasks.planted import PLANTED, PlantedTask
from ads_gym.tasks.supernet import SupernetTask, TaskEntry, save_task, task_names

__all__ = ["PLANTED", "PlantedTask", "SupernetTask", "Task", "TaskEntry", "save_task", "task_names", "tasks_home"]
