"""What a training needs: memory, the ladder where it runs out, time. Imports all that trains."""
