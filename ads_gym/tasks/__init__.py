"""Tasks: data, a network and its trained weights, under a name or in a folder."""

from ads_gym.tasks.task import PLANTED, Task, TaskEntry, save_task, task_names, tasks_home

__all__ = ["PLANTED", "Task", "TaskEntry", "save_task", "task_names", "tasks_home"]
